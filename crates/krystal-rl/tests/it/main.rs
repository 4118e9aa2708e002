//! Learners against numbers that were not made by them.

mod problems;

mod agent;
mod agent_files;
mod baird;
mod cart_pole;
mod cliff;
mod forward_view;
mod markov;
mod mountain_car;
mod refusals;
mod replay;
mod resume;
mod same_learner;
mod step_sizes;
mod walk;
