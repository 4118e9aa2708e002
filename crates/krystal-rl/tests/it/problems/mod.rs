//! Problems whose answers are known.

pub(crate) mod cart_pole;
pub(crate) mod cliff;
pub(crate) mod frozen_lake;
pub(crate) mod mdp;
pub(crate) mod mountain_car;
pub(crate) mod taxi;
pub(crate) mod walk;
