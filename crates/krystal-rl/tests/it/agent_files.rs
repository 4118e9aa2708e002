//! Stop, save, load, go on; and files that are not what they should be.

use std::path::Path;

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{Agent, AgentConfig, Error, MemoryConfig, Method, Policy, SetPointConfig, StepSize, TunerConfig};
use serde::ser::{Serialize, SerializeTuple, Serializer};

fn configurations() -> Vec<AgentConfig> {
    let base = AgentConfig { state_dim: 3, action_dim: 3, seed: 5, ..AgentConfig::default() };
    let memory = MemoryConfig { capacity: 30, batch: 3, ..MemoryConfig::default() };
    let swarm = TunerConfig { window: 7, trials: 12, ..TunerConfig::default() };
    vec![
        base.clone(),
        AgentConfig { method: Method::Sarsa, lambda: 0.9, learning_rate: StepSize::Nag { eta: 0.2 }, ..base.clone() },
        AgentConfig { learning_rate: StepSize::autostep(0.01), policy: Policy::PhaseRates, ..base.clone() },
        AgentConfig {
            method: Method::QLearning,
            learning_rate: StepSize::RobbinsMonro { alpha: 0.2, half_life: 50.0, power: 0.9 },
            replay: Some(memory),
            swarm: Some(swarm),
            set_point: Some(SetPointConfig { reward: 0.4, ..Default::default() }),
            ..base.clone()
        },
        AgentConfig { replay: Some(MemoryConfig { prioritized: None, ..memory }), ..base },
    ]
}

/// Runs cycles `from..to`, with the agent passed through `stop` after every call.
fn run(mut agent: Agent, from: u64, to: u64, mut stop: impl FnMut(Agent, u64) -> Agent) -> Agent {
    for cycle in from..to {
        let mut rng = SplitMix64::stream(17, Purpose::Simulation, cycle, 0);
        let mut call = |agent| stop(agent, cycle);
        let seen = [("x", rng.normal()), ("y", rng.normal()), ("z", rng.uniform())];
        agent.observe(&seen).unwrap();
        agent = call(agent);
        let action = agent.decide().unwrap().action;
        agent = call(agent);
        agent.reward(rng.uniform() * action as f64 / 2.0).unwrap();
        agent = call(agent);
        match cycle % 13 {
            5 => agent.terminated().unwrap(),
            11 => agent.truncated(&seen).unwrap(),
            _ => {}
        }
        agent.tick().unwrap();
        agent = call(agent);
    }
    agent
}

#[test]
fn stopped_and_resumed_is_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    for config in configurations() {
        let new = || Agent::new(config.clone()).unwrap();
        let uninterrupted = run(new(), 0, 150, |agent, _| agent);
        let resumed = run(new(), 0, 150, |agent, cycle| {
            if cycle % 10 != 3 {
                return agent;
            }
            agent.save(&path).unwrap();
            Agent::load(&path).unwrap()
        });
        assert_eq!(resumed.to_bytes().unwrap(), uninterrupted.to_bytes().unwrap(), "{config:?}");
        assert_ne!(uninterrupted.to_bytes().unwrap(), new().to_bytes().unwrap());
    }
}

#[test]
fn it_goes_back_to_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let config = AgentConfig { checkpoint_every: 20, ..configurations()[3].clone() };
    let mut agent = Agent::new(config.clone()).unwrap();
    assert!(matches!(agent.recover(), Err(Error::NoCheckpoint)));
    agent.checkpoint_to(&path);
    assert!(matches!(agent.recover(), Err(Error::NoCheckpoint)));
    let mut saved = Vec::new();
    agent = run(agent, 0, 47, |agent, cycle| {
        if path.exists() && saved.is_empty() {
            saved.push(cycle);
        }
        agent
    });
    assert_eq!((saved, agent.cycle()), (vec![19], 47));
    agent.recover().unwrap();
    assert_eq!(agent.cycle(), 40);
    let again = run(agent, 40, 60, |agent, _| agent);
    let through = run(Agent::new(config.clone()).unwrap(), 0, 60, |mut agent, _| {
        agent.checkpoint_to(folder.path().join("other"));
        agent
    });
    assert_eq!(again.to_bytes().unwrap(), through.to_bytes().unwrap());

    let mut other = Agent::new(AgentConfig { seed: 6, ..config }).unwrap();
    other.checkpoint_to(&path);
    let before = other.to_bytes().unwrap();
    assert!(matches!(other.recover(), Err(Error::Inconsistent { .. })));
    assert_eq!(other.to_bytes().unwrap(), before);
}

#[test]
fn a_damaged_file_is_refused_and_the_agent_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let mut agent = run(Agent::new(configurations()[0].clone()).unwrap(), 0, 20, |agent, _| agent);
    agent.checkpoint_to(&path);
    agent.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let before = agent.to_bytes().unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 16;
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(agent.recover(), Err(Error::Checkpoint { .. })), "byte {at}");
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(agent.recover(), Err(Error::Checkpoint { .. })));
    assert_eq!(agent.to_bytes().unwrap(), before);
    let nowhere = folder.path().join("no").join("folder");
    agent.checkpoint_to(&nowhere);
    let mut agent = run(agent, 20, 99, |agent, _| agent);
    agent.observe(&[0.0; 3]).unwrap();
    agent.decide().unwrap();
    agent.reward(0.0).unwrap();
    assert!(matches!(agent.tick(), Err(Error::Checkpoint { .. })));
}

/// Bytes as the payload of a file, without a length before them.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

fn payload(agent: &Agent, path: &Path) -> Vec<u8> {
    agent.save(path).unwrap();
    let bytes = std::fs::read(path).unwrap();
    // Magic, format, kind with its length, version, length; at the end the checksum.
    bytes[8 + 4 + 4 + "agent".len() + 4 + 8..bytes.len() - 32].to_vec()
}

/// Files with a valid checksum whose content somebody changed: refused, or an agent that goes on without a panic.
#[test]
fn no_file_leads_to_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let mut refused = 0;
    let mut n = 0;
    for config in configurations() {
        let agent = run(Agent::new(config).unwrap(), 0, 25, |agent, _| agent);
        let whole = payload(&agent, &path);
        let bytes = krystal_checkpoint::to_bytes("agent", 1, &Raw(&whole)).unwrap();
        assert_eq!(Agent::from_bytes(&bytes).unwrap().to_bytes().unwrap(), agent.to_bytes().unwrap());
        for at in (0..whole.len()).step_by(3) {
            let mut changed = whole.clone();
            changed[at] ^= [1, 0x80, 0x7f, 0xff][at % 4];
            n += 1;
            match Agent::from_bytes(&krystal_checkpoint::to_bytes("agent", 1, &Raw(&changed)).unwrap()) {
                Err(Error::Checkpoint { .. } | Error::Inconsistent { .. }) => refused += 1,
                Err(_) => refused += 1,
                Ok(mut agent) => {
                    for cycle in 0..3 {
                        // Whatever the numbers are, calls return.
                        let _ = agent.observe(&[0.1, 0.2, f64::from(cycle)]);
                        let _ = agent.decide();
                        let _ = agent.reward(0.5);
                        let _ = agent.tick();
                    }
                    let _ = agent.terminated();
                }
            }
        }
    }
    println!("{refused} of {n} refused");
    assert!(refused > n / 10);
}
