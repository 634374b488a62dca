//! Enable, ready, shutdown and reset (7.3, 7.6): CC and CSTS.
//!
//! What was asked of the medium before a reset may still be under way when the controller is enabled again, and could
//! overwrite what is written then. So CSTS.RDY follows CC.EN, in both directions, only when the medium has ended all
//! requests. CAP.TO gives it the time.

use sdmorph_pci::{Ctx, Event, MediaRequest, MediaResult};

use crate::Nvme;
use crate::admin::features::Features;
use crate::in_flight::Commands;
use crate::medium::Owner;
use crate::queues::{CompletionQueue, Queues, SubmissionQueue};
use crate::registers::{ACQ, AQA, ASQ, CC, cap, cc, csts};

/// What CSTS says, as the state that it is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// CC.EN is clear, and so is CSTS.RDY.
    Disabled,
    /// CC.EN was set; ready once nothing of before is under way.
    Starting,
    /// Commands are processed.
    Ready,
    /// CC.EN was cleared; RDY follows once nothing is under way.
    Stopping,
}

/// What CSTS.SHST says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    None,
    /// Commands under way are ended first.
    Draining,
    /// The medium is asked to keep everything.
    Flushing,
    Complete,
}

impl Nvme {
    /// Whether commands are processed.
    pub(crate) fn processes_commands(&self) -> bool {
        self.life == Life::Ready && !self.fatal
    }

    /// CSTS.
    pub(crate) fn status_register(&self) -> u32 {
        let ready = if matches!(self.life, Life::Ready | Life::Stopping) { csts::READY } else { 0 };
        let fatal = if self.fatal { csts::FATAL } else { 0 };
        let shutdown = match self.shutdown {
            Shutdown::None => 0,
            Shutdown::Draining | Shutdown::Flushing => csts::SHUTDOWN_RUNS,
            Shutdown::Complete => csts::SHUTDOWN_COMPLETE,
        };
        ready | fatal | shutdown
    }

    /// CC has been written.
    pub(crate) fn configuration_written(&mut self, ctx: &mut Ctx<'_>, before: u32, now: u32) {
        let enabled = now & cc::ENABLE != 0;
        if enabled != (before & cc::ENABLE != 0) {
            if enabled { self.enable(ctx) } else { self.controller_reset(ctx) }
        }
        if cc::shutdown(now) != 0 && cc::shutdown(before) == 0 && self.shutdown == Shutdown::None {
            self.shutdown = Shutdown::Draining;
        }
        self.advance(ctx);
    }

    fn enable(&mut self, ctx: &mut Ctx<'_>) {
        self.smart.enabled(ctx.now());
        let register = |at| self.bar.get(at).unwrap_or(0);
        let cc = self.dword(CC);
        let [submission, completion] = [register(AQA) & 0xfff, register(AQA) >> 16 & 0xfff];
        let page_bytes = 4096u64 << cc::page_size(cc);
        let (asq, acq) = (register(ASQ), register(ACQ));
        let supported = cc::command_set(cc) == 0
            && cc::arbitration(cc) == 0
            && u64::from(cc::page_size(cc)) <= cap::MPSMAX
            && submission > 0
            && completion > 0
            && (asq | acq) & (page_bytes - 1) == 0;
        if !supported {
            // The controller could not begin; the guest sees no RDY before its time-out, and why.
            self.fail();
            return;
        }
        self.page_bytes = page_bytes;
        self.queues.add_completion(0, CompletionQueue::new(acq, completion as u32 + 1, Some(0)));
        self.queues.add_submission(0, SubmissionQueue::new(asq, submission as u32 + 1, 0));
        self.life = Life::Starting;
    }

    /// What comes next in the life of the controller, if nothing that it waits for is under way.
    pub(crate) fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let idle = self.medium.under_way() == 0;
        match self.life {
            Life::Starting | Life::Stopping if self.ready_stuck => {}
            Life::Starting if idle => {
                self.life = Life::Ready;
                if !self.driver_bound {
                    self.driver_bound = true;
                    ctx.event(Event::DriverBound);
                }
            }
            Life::Stopping if idle => self.life = Life::Disabled,
            _ => {}
        }
        // Without bus mastering, what the medium has ended cannot reach the guest any more.
        let told = self.commands.results.is_empty() || !ctx.is_bus_master();
        if self.shutdown == Shutdown::Draining && idle && told {
            self.shutdown = Shutdown::Flushing;
            if let Some(result) = self.medium.begin(Owner::Shutdown, MediaRequest::Flush) {
                self.shutdown_flushed(&result);
            }
        }
    }

    /// The shutdown's flush has ended. If it failed, what was written may be lost, and the shutdown never completes.
    pub(crate) fn shutdown_flushed(&mut self, result: &MediaResult) {
        if self.shutdown != Shutdown::Flushing {
            return;
        }
        match result {
            Ok(_) => self.shutdown = Shutdown::Complete,
            Err(_) => self.fatal = true,
        }
    }

    /// The controller cannot go on (CSTS.CFS): the guest has to reset it.
    pub(crate) fn fail(&mut self) {
        self.fatal = true;
        self.counters.fatal += 1;
    }

    /// Controller reset (7.3.2): queues, commands and everything that was set by commands are forgotten. Registers of the
    /// admin queue stay.
    pub(crate) fn controller_reset(&mut self, ctx: &mut Ctx<'_>) {
        self.forget();
        self.smart.set_busy(ctx.now(), false);
        self.life = Life::Stopping;
        self.settle(ctx);
    }

    /// What every reset forgets.
    pub(crate) fn forget(&mut self) {
        self.medium.forget();
        self.namespace.is_being_formatted = false;
        self.queues = Queues::new();
        self.commands = Commands::new();
        self.events = Default::default();
        self.features = Features::new();
        self.doorbell_buffers = None;
        self.interrupts.controller_reset();
        self.changed_namespace = false;
        self.fatal = false;
        self.shutdown = Shutdown::None;
        self.life = Life::Disabled;
        self.polled = false;
        self.next_queue = 0;
    }
}
