//! The composition: who is in the slot, insertion, switch, removal; time and the flight recorder
