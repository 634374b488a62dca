//! Which chip a server has.

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
