//! What a slot may be equipped with: button, latch, power, commands that take their time, a link that does not train.

use std::time::Duration;

use sdmorph_pci::capability::EXP;
use sdmorph_pci::port::{CommandCompletion, Equipment};
use sdmorph_pci::register::check_table;
use sdmorph_pci::{PciFunction, ResetKind};

use crate::toy::{Domain, EXPRESS};

const PDS: u32 = EXP::SLTSTA_PDS;

fn sltcap(domain: &mut Domain) -> u32 {
    domain.port_read(EXPRESS + 0x14, 4) & 0x0007_ffff
}

fn link_trains(domain: &mut Domain) -> bool {
    domain.port_read(EXPRESS + EXP::LNKSTA, 2) & EXP::LNKSTA_LT != 0
}

fn turn_power(domain: &mut Domain, on: bool) {
    let control = domain.port_read(EXPRESS + EXP::SLTCTL, 2) & !EXP::SLTCTL_PCC;
    domain.port_write(EXPRESS + EXP::SLTCTL, 2, if on { control } else { control | EXP::SLTCTL_PCC });
}

#[test]
fn slot_tells_what_it_is_equipped_with_and_has_the_controls_for_it_only() {
    let base = EXP::SLTCAP_HPS | EXP::SLTCAP_HPC;
    let plain = 0x103f;
    let cases: [(&[&str], u32, u32); 6] = [
        (&[], EXP::SLTCAP_NCCS, 0),
        (&["attention-button"], EXP::SLTCAP_NCCS | EXP::SLTCAP_ABP, 0),
        (&["indicators"], EXP::SLTCAP_NCCS | EXP::SLTCAP_AIP | EXP::SLTCAP_PIP, 0x03c0),
        (&["mrl-sensor"], EXP::SLTCAP_NCCS | EXP::SLTCAP_MRLSP, 0),
        (&["power-controller"], EXP::SLTCAP_NCCS | EXP::SLTCAP_PCP, EXP::SLTCTL_PCC),
        (&["command-completed", "in-band-presence-disable"], 0, EXP::SLTCTL_IBPD_DISABLE),
    ];
    for (words, capabilities, controls) in cases {
        let mut domain = Domain::programmed_with(words);
        assert_eq!(sltcap(&mut domain), base | capabilities, "{words:?}");
        domain.port_write(EXPRESS + EXP::SLTCTL, 2, 0xffff);
        assert_eq!(domain.port_read(EXPRESS + EXP::SLTCTL, 2), plain | controls, "{words:?}");
        let in_band = u32::from(words.contains(&"in-band-presence-disable"));
        assert_eq!(domain.port_read(EXPRESS + 0x34, 4), in_band, "{words:?}");
        assert_eq!(domain.bus.port().equipment().words(), words);
        assert_eq!(check_table(domain.bus.port().config().rows()), Vec::<String>::new());
    }
}

#[test]
fn every_word_names_one_piece_and_dpc_brings_aer() {
    for word in Equipment::WORDS {
        let equipment = Equipment::from_words([*word]);
        let expected: &[&str] = if *word == "dpc" { &["aer", "dpc"] } else { &[word] };
        assert_eq!(equipment.words(), expected);
    }
    assert_eq!(Equipment::from_words(["atention-button"]), Equipment::default());
}

#[test]
fn slot_without_the_equipment_does_not_notice() {
    let mut domain = Domain::programmed();
    domain.enable(0x101f, true);
    domain.with_port(|port, ctx| {
        port.press_attention_button(ctx);
        port.set_mrl_open(ctx, true);
        port.set_power_fault(ctx, true);
    });
    assert_eq!(domain.slot_status(), PDS);
    assert!(domain.link_is_active());
    assert!(domain.messages().is_empty());
    assert_eq!(domain.events(), [""; 0]);
}

#[test]
fn button_is_latched_at_each_press_and_interrupts_if_enabled() {
    let mut domain = Domain::programmed_with(&["attention-button"]);
    domain.with_port(|port, ctx| port.press_attention_button(ctx));
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_ABP);
    assert!(domain.messages().is_empty());
    domain.clear(EXP::SLTSTA_ABP);
    domain.enable(EXP::SLTCTL_ABPE, true);
    domain.with_port(|port, ctx| port.press_attention_button(ctx));
    assert_eq!(domain.messages().len(), 1);
    assert_eq!(domain.events(), ["attention-button-pressed"; 2]);
}

#[test]
fn latch_shows_its_state_and_each_change_of_it() {
    let mut domain = Domain::programmed_with(&["mrl-sensor"]);
    domain.enable(EXP::SLTCTL_MRLSCE, true);
    domain.with_port(|port, ctx| port.set_mrl_open(ctx, true));
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_MRLSS | EXP::SLTSTA_MRLSC);
    assert_eq!(domain.messages().len(), 1);
    domain.clear(0xffff);
    domain.with_port(|port, ctx| port.set_mrl_open(ctx, true));
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_MRLSS, "it is open already");
    domain.with_port(|port, ctx| port.set_mrl_open(ctx, false));
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_MRLSC);
    assert_eq!(domain.events(), ["mrl-sensor-changed"; 2]);
}

#[test]
fn power_that_is_turned_off_takes_the_link_and_the_function_s_state_and_leaves_presence() {
    let mut domain = Domain::programmed_with(&["power-controller"]);
    domain.enable(EXP::SLTCTL_DLLSCE, true);
    turn_power(&mut domain, false);
    assert!(!domain.link_is_active());
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_DLLSC);
    assert_eq!(domain.messages().len(), 1);
    assert_eq!(domain.toy().resets, [ResetKind::Hot, ResetKind::Cold]);
    domain.set_link(true);
    assert!(!domain.link_is_active(), "nobody trains without power");
    domain.clear(0xffff);
    turn_power(&mut domain, true);
    assert!(!domain.link_is_active(), "who has power again has to train");
    domain.set_link(true);
    assert!(domain.link_is_active());
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_DLLSC);
    assert_eq!(domain.events(), ["slot-power", "link-down", "reset", "reset", "slot-power", "link-up"]);
}

#[test]
fn power_fault_takes_power_away_and_cannot_be_cleared_before_power_was_turned_off() {
    let mut domain = Domain::programmed_with(&["power-controller"]);
    domain.enable(EXP::SLTCTL_PFDE, true);
    domain.with_port(|port, ctx| port.set_power_fault(ctx, true));
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_PFD | EXP::SLTSTA_DLLSC);
    assert_eq!(domain.messages().len(), 1);
    assert!(!domain.link_is_active());
    domain.clear(0xffff);
    assert_eq!(domain.slot_status(), PDS | EXP::SLTSTA_PFD, "it is still latched inside");
    assert!(domain.messages().is_empty());
    turn_power(&mut domain, false);
    domain.clear(0xffff);
    assert_eq!(domain.slot_status(), PDS);
    turn_power(&mut domain, true);
    domain.set_link(true);
    assert!(domain.link_is_active());
}

#[test]
fn power_fault_that_goes_away_gives_power_back_and_leaves_its_event() {
    let mut domain = Domain::programmed_with(&["power-controller"]);
    domain.with_port(|port, ctx| port.set_power_fault(ctx, true));
    domain.with_port(|port, ctx| port.set_power_fault(ctx, false));
    domain.set_link(true);
    assert!(domain.link_is_active());
    assert_ne!(domain.slot_status() & EXP::SLTSTA_PFD, 0);
    domain.clear(EXP::SLTSTA_PFD);
    assert_eq!(domain.slot_status() & EXP::SLTSTA_PFD, 0);
    assert_eq!(
        domain.events(),
        ["power-fault", "slot-power", "link-down", "reset", "reset", "slot-power", "link-up"]
    );
}

#[test]
fn command_completes_at_once_late_or_untold() {
    let cc = |domain: &mut Domain| domain.slot_status() & EXP::SLTSTA_CC != 0;
    let mut domain = Domain::programmed_with(&["command-completed"]);
    domain.enable(EXP::SLTCTL_CCIE, true);
    assert!(cc(&mut domain));
    assert_eq!(domain.messages().len(), 1);
    domain.clear(EXP::SLTSTA_CC);

    domain.with_port(|port, _| {
        port.set_command_completion(CommandCompletion::After(Duration::from_millis(500)));
    });
    domain.enable(EXP::SLTCTL_CCIE, true);
    domain.bench.clock.advance(Duration::from_millis(499));
    domain.with_port(|port, ctx| port.wake(ctx));
    assert!(!cc(&mut domain));
    domain.bench.clock.advance(Duration::from_millis(1));
    domain.with_port(|port, ctx| port.wake(ctx));
    assert!(cc(&mut domain));
    assert_eq!(domain.messages().len(), 1);
    domain.clear(EXP::SLTSTA_CC);

    domain.with_port(|port, _| port.set_command_completion(CommandCompletion::Untold));
    // A write of the high byte alone is a command, too.
    domain.port_write(EXPRESS + EXP::SLTCTL + 1, 1, 0);
    domain.bench.clock.advance(Duration::from_secs(10));
    domain.with_port(|port, ctx| port.wake(ctx));
    assert!(!cc(&mut domain));
    assert_eq!(domain.events(), ["command-completed"; 2]);
}

#[test]
fn slot_without_notifications_completes_commands_silently() {
    let mut domain = Domain::programmed();
    domain.enable(EXP::SLTCTL_CCIE, true);
    assert_eq!(domain.slot_status(), PDS);
    assert_eq!(domain.events(), [""; 0]);
}

#[test]
fn link_that_trains_without_end_shows_it_until_it_is_up() {
    let mut domain = Domain::programmed();
    domain.with_port(|port, _| port.train_without_end());
    assert!(domain.link_is_active() && !link_trains(&mut domain), "it is up");
    domain.set_link(false);
    domain.with_port(|port, _| port.train_without_end());
    assert!(!domain.link_is_active() && link_trains(&mut domain));
    domain.set_link(true);
    assert!(domain.link_is_active() && !link_trains(&mut domain));
}

#[test]
fn reset_turns_power_on_and_forgets_the_command_that_is_under_way() {
    let mut domain = Domain::programmed_with(&["power-controller", "command-completed"]);
    domain.with_port(|port, _| {
        port.set_command_completion(CommandCompletion::After(Duration::from_millis(1)));
    });
    turn_power(&mut domain, false);
    domain.with_port(|port, ctx| port.reset(ctx, ResetKind::Hot));
    domain.set_link(true);
    assert!(domain.link_is_active());
    domain.bench.clock.advance(Duration::from_secs(1));
    domain.with_port(|port, ctx| port.wake(ctx));
    assert_eq!(domain.slot_status() & EXP::SLTSTA_CC, 0);
}
