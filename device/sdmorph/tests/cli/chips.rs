//! Which chip a server has, and what its slot is equipped with.

use sdmorph_machine::Model;

use crate::server::{Server, sdmorph};

#[test]
fn chip_is_the_one_that_was_asked_for_and_an_rts5261_otherwise() {
    let chip = |arguments: &[&str]| {
        let mut server = Server::start(arguments);
        let status = server.done(&["query-status"]).json();
        assert_eq!(server.quit(), Some(0));
        status["chip"].as_str().unwrap().to_owned()
    };
    assert_eq!(chip(&[]), "rts5261");
    assert_eq!(chip(&["--chip", "rts5228"]), "rts5228");
}

#[test]
fn unknown_chip_is_refused_with_the_names_of_all() {
    let names: Vec<_> = Model::ALL.iter().map(|model| model.name).collect();
    sdmorph(&["serve", "--chip", "rts9999"]).fails_with(2, &names);
}

#[test]
fn vendor_settings_are_those_that_were_asked_for_and_none_otherwise() {
    let settings = |arguments: &[&str]| {
        let mut server = Server::start(arguments);
        let status = server.done(&["query-status"]).json();
        assert_eq!(server.quit(), Some(0));
        status["vendor-settings"].clone()
    };
    assert!(settings(&[]).is_null());
    let found = settings(&["--vendor-settings", "rtd3,aspm=l1", "--vendor-settings", "drive-3v3=2"]);
    assert_eq!((&found["rtd3"], &found["mmc"]), (&true.into(), &false.into()));
    assert_eq!((&found["aspm"], &found["drive-3v3"]), (&"l1".into(), &2.into()));
}

#[test]
fn vendor_settings_that_cannot_be_are_refused_with_the_word_that_may_have_been_meant() {
    let refused = |arguments: &[&str], says: &[&str]| {
        sdmorph(&[&["serve"], arguments].concat()).fails_with(2, says);
    };
    refused(&["--vendor-settings", "rtd"], &["'rtd'", "--vendor-settings", "'rtd3'", "drive-3v3=3"]);
    refused(&["--vendor-settings", "aspm=l1,aspm=l0s"], &["--vendor-settings", "`aspm` is given twice"]);
    refused(&["--vendor-settings", ""], &["--vendor-settings"]);
    let lacks = ["--chip", "rts5260", "--vendor-settings", "rtd3"];
    refused(&lacks, &["--vendor-settings", "an rts5260 has no vendor setting `rtd3`"]);
}

#[test]
fn slot_has_what_was_asked_for_and_nothing_otherwise() {
    let equipment = |arguments: &[&str]| {
        let mut server = Server::start(arguments);
        let status = server.done(&["query-status"]).json();
        assert_eq!(server.quit(), Some(0));
        status["slot-equipment"].clone()
    };
    assert_eq!(equipment(&[]), serde_json::json!([]));
    let asked = ["--slot", "dpc,attention-button", "--slot", "indicators"];
    assert_eq!(equipment(&asked), serde_json::json!(["attention-button", "indicators", "aer", "dpc"]));
    let refused = sdmorph(&["serve", "--slot", "atention-button"]);
    refused.fails_with(2, &["'atention-button'", "--slot", "'attention-button'", "power-controller"]);
}
