//! What a card's CID makes of the controller.

use sdmorph_nvme::Identity;

use crate::rig::CID;

#[test]
fn identity_is_made_of_the_card_s_cid() {
    let identity = Identity::of_card(&CID);
    assert_eq!(&identity.serial, b"03DEADBEEF202406    ");
    assert_eq!(&identity.model, b"SD MORPH SD Express                     ");
    assert_eq!(&identity.firmware, b"1.2     ");
    assert_eq!(identity.ieee, [0x02, b'S', b'D']);
    assert_eq!(identity.eui64, [0x02, b'S', b'D', 0x03, 0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(identity.pci.class, 0x01_0802);
}

#[test]
fn cards_that_differ_in_anything_have_different_qualified_names() {
    let name = Identity::of_card(&CID).subnqn;
    assert!(name.starts_with("nqn.2014-08.org.nvmexpress:uuid:"), "{name}");
    assert_eq!(name.len(), 68);
    for at in 0..15 {
        for bit in 0..8 {
            let mut cid = CID;
            cid[at] ^= 1 << bit;
            assert_ne!(Identity::of_card(&cid).subnqn, name, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn bytes_that_cannot_be_printed_become_question_marks() {
    let mut cid = CID;
    cid[1] = 0;
    cid[7] = 0xff;
    assert_eq!(&Identity::of_card(&cid).model[..9], b"?D MORP? ");
}
