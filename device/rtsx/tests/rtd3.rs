//! RTD3: the reader sleeps in D3hot, and a card that comes or goes asks for it to be woken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod row_card;

use std::sync::{Arc, Mutex};

use row_card::{Row, State};
use sdmorph_pci::PciFunction;
use sdmorph_pci::capability::PM;
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::model::Model;
use sdmorph_rtsx::vendor_config::{Settings, SettingsError};
use sdmorph_testkit::{Bench, RtsxDriver};
use serde_json::json;

const PMCSR: u16 = 0x84;
const PME_STATUS: u32 = PM::CTRL_PME_STATUS;
const PME_ENABLE: u32 = PM::CTRL_PME_ENABLE;
const D3HOT: u32 = 3;

struct Lab {
    bench: Bench,
    reader: Rtsx,
    driver: RtsxDriver,
}

impl Lab {
    fn bound(model: &'static Model, settings: Option<Settings>) -> Self {
        let reader = Rtsx::with_settings(model, settings);
        let mut lab = Self { bench: Bench::default(), reader, driver: RtsxDriver::new() };
        lab.driver.probe(&mut lab.bench, &mut lab.reader).unwrap();
        lab
    }

    fn asleep(model: &'static Model) -> Self {
        let mut lab = Self::bound(model, Some(Settings { rtd3: true, ..Settings::default() }));
        assert!(lab.driver.rtd3, "{}", model.name);
        lab.runtime_suspend();
        lab
    }

    fn runtime_suspend(&mut self) {
        self.driver.runtime_suspend(&mut self.bench, &mut self.reader).unwrap();
        assert_eq!(self.pmcsr() & 0x8103, PME_ENABLE | D3HOT);
    }

    fn runtime_resume(&mut self) {
        self.driver.runtime_resume(&mut self.bench, &mut self.reader).unwrap();
    }

    fn pmcsr(&mut self) -> u32 {
        self.bench.config_read(&mut self.reader, PMCSR, 2)
    }

    fn insert(&mut self) {
        let card = Row(Arc::new(Mutex::new(State::of_blocks(1024))));
        self.bench.with(&mut self.reader, |reader, ctx| reader.insert(ctx, Box::new(card)));
    }

    fn eject(&mut self) {
        assert!(self.bench.with(&mut self.reader, |reader, ctx| reader.eject(ctx)).is_some());
    }
}

/// Chips whose settings have a bit for RTD3.
fn models() -> impl Iterator<Item = &'static Model> {
    let rtd3 = Settings { rtd3: true, ..Settings::default() };
    Model::ALL.iter().copied().filter(move |model| rtd3.check_for(model).is_ok())
}

#[test]
fn card_that_comes_in_d3hot_asks_for_the_reader_and_is_found_after_it_has_resumed() {
    assert_eq!(models().count(), Model::ALL.len() - 1);
    for model in models() {
        let mut lab = Lab::asleep(model);
        lab.bench.interrupts.take_new();
        lab.insert();
        assert!(lab.reader.config().requests_pme(), "{}", model.name);
        assert!(lab.bench.interrupts.take_new().is_empty(), "no interrupt message in D3hot");
        lab.runtime_resume();
        assert!(!lab.reader.config().requests_pme());
        assert_eq!(lab.pmcsr() & 0x8103, 0);
        // The driver has taken the card's interrupt beside those of its command lists.
        assert!(lab.driver.card_inserted, "{}", model.name);
        lab.driver.rescan(&mut lab.bench, &mut lab.reader).unwrap();
        assert!(lab.driver.command(&mut lab.bench, &mut lab.reader, 13, 0).is_ok(), "{}", model.name);
        assert_eq!(lab.bench.log.unmodelled(), [], "{}", model.name);
    }
}

#[test]
fn card_that_goes_in_d3hot_asks_for_the_reader_as_well_each_time_it_sleeps() {
    for model in models() {
        let mut lab = Lab::asleep(model);
        for _ in 0..2 {
            lab.insert();
            lab.runtime_resume();
            lab.runtime_suspend();
            lab.eject();
            assert!(lab.reader.config().requests_pme(), "{}", model.name);
            lab.runtime_resume();
            assert!(lab.driver.card_removed, "{}", model.name);
            lab.runtime_suspend();
        }
    }
}

#[test]
fn nobody_is_woken_without_rtd3_nor_when_the_driver_has_disarmed_it_for_the_system_s_sleep() {
    for model in Model::ALL {
        for rtd3 in [false, true] {
            let settings = Settings { rtd3, ..Settings::default() };
            if settings.check_for(model).is_err() {
                continue;
            }
            let mut lab = Lab::bound(model, Some(settings));
            if rtd3 {
                lab.driver.shutdown(&mut lab.bench, &mut lab.reader).unwrap();
            }
            lab.bench.config_write(&mut lab.reader, PMCSR, 2, PME_ENABLE | D3HOT);
            lab.insert();
            lab.eject();
            assert_eq!(lab.pmcsr() & PME_STATUS, 0, "{} {rtd3}", model.name);
        }
    }
}

#[test]
fn driver_allows_rtd3_only_if_a_firmware_does() {
    for model in Model::ALL {
        assert!(!Lab::bound(model, None).driver.rtd3, "{}", model.name);
        assert!(!Lab::bound(model, Some(Settings::default())).driver.rtd3, "{}", model.name);
    }
}

#[test]
fn registers_and_the_card_keep_what_they_hold_in_d3hot() {
    for model in models() {
        let mut lab = Lab::asleep(model);
        lab.insert();
        let before = lab.reader.snapshot();
        lab.bench.config_write(&mut lab.reader, PMCSR, 2, PME_ENABLE);
        let after = lab.reader.snapshot();
        assert_eq!(before["internal"], after["internal"], "{}", model.name);
        assert_eq!(before[format!("bar{}", model.bar)], after[format!("bar{}", model.bar)]);
    }
}

#[test]
fn words_say_settings_and_each_setting_has_words() {
    let of = |words: &[&str]| Settings::from_words(words.iter().copied());
    assert_eq!(of(&[]), Ok(Settings::default()));
    let all = of(&["rtd3", "mmc", "reverse-socket", "aspm=l1", "drive-1v8=3", "drive-3v3=1"]).unwrap();
    assert_eq!(
        all,
        Settings { rtd3: true, mmc: true, reverse_socket: true, aspm: 2, drive_1v8: 3, drive_3v3: 1 }
    );
    assert_eq!(
        all.snapshot(),
        json!({
            "rtd3": true, "mmc": true, "reverse-socket": true, "aspm": "l1", "drive-1v8": 3, "drive-3v3": 1,
        })
    );
    for (word, _) in Settings::WORDS {
        let said = of(&[word]).unwrap().snapshot();
        let (setting, value) = word.split_once('=').unwrap_or((word, "true"));
        assert_eq!(said[setting].to_string().trim_matches('"'), value, "{word}");
    }
    assert_eq!(of(&["rtd4"]), Err(SettingsError::Unknown("rtd4".to_owned())));
    assert!(of(&["rtd4"]).unwrap_err().to_string().contains("drive-3v3=3"));
    assert_eq!(of(&["aspm=l1", "aspm=off"]), Err(SettingsError::Twice("aspm".to_owned())));
    assert_eq!(of(&["mmc", "mmc"]), Err(SettingsError::Twice("mmc".to_owned())));
}

#[test]
fn setting_that_a_chip_has_no_place_for_is_refused_by_name() {
    let lacks = |word: &str| -> Vec<_> {
        let settings = Settings::from_words([word]).unwrap();
        let models = Model::ALL.iter().filter(|model| settings.check_for(model).is_err());
        models.map(|model| model.name).collect()
    };
    assert_eq!(lacks("rtd3"), ["rts5260"]);
    assert_eq!(lacks("mmc"), ["rts5264"]);
    assert_eq!(lacks("reverse-socket"), [""; 0]);
    let rtd3 = Settings { rtd3: true, ..Settings::default() };
    let error = rtd3.check_for(&sdmorph_rtsx::model::RTS5260).unwrap_err();
    assert_eq!(error.to_string(), "an rts5260 has no vendor setting `rtd3`");
}
