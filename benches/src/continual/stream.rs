//! Sequences of tasks, drawn by seed.

use krystal_lm::TokenBatch;
use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::RngExt;

use super::curriculum::{OldMeaning, arithmetic, languages, shuffled, tags_of, transforms};
use super::settings::Settings;
use super::task::{Example, Task, draw, draw_distinct, token_batch};
use super::tasks::{Letters, Recall, Transform};

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u64)]
pub enum StreamKind {
    /// Operations modulo a prime, each with its tag.
    Arith = 1,
    /// Formal languages, each with its tag.
    Formal = 2,
    /// One table of keys and values after another, without any cue: pure conflict.
    Recall = 3,
    /// Transforms of strings, each with its tag.
    Strings = 4,
    /// Transforms of strings that come back at several periods, each with its tag.
    Recurring = 5,
    /// Several agents at once: a shared rule, private tables under the same tag, and adversaries.
    Agents = 6,
}

impl StreamKind {
    /// All, in the order of the tables.
    pub const ALL: [Self; 6] = [Self::Arith, Self::Formal, Self::Recall, Self::Strings, Self::Recurring, Self::Agents];

    /// Its name on the command line and in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arith => "arith",
            Self::Formal => "formal",
            Self::Recall => "recall",
            Self::Strings => "strings",
            Self::Recurring => "recurring",
            Self::Agents => "agents",
        }
    }

    /// The stream of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One agent's problems of one step.
#[derive(Debug, Clone)]
pub struct AgentBatch {
    /// Whose they are; 0 where there is one agent.
    pub agent: usize,
    /// The problems.
    pub examples: Vec<Example>,
}

/// A stretch of a stream with one source of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// Which of the stream's tests measures it.
    pub task: usize,
    /// Optimisation steps.
    pub steps: usize,
}

/// Problems that an agent has to answer, never trained on as such (the same question may come up in training).
#[derive(Debug, Clone)]
pub struct Test {
    /// The task's name.
    pub name: String,
    /// Who answers.
    pub agent: usize,
    /// The problems.
    pub examples: Vec<Example>,
    /// The same as rows.
    pub batch: TokenBatch,
}

#[derive(Debug)]
struct Source {
    task: Box<dyn Task>,
    tag: Option<u32>,
}

/// What the agents of a stream are given.
#[derive(Debug)]
struct Agents {
    count: usize,
    /// How many of them, from the last, are wrong about the shared rule.
    adversaries: usize,
}

/// A stream: phases of tasks, and the tests that measure them.
#[derive(Debug)]
pub struct Stream {
    /// Which one.
    pub kind: StreamKind,
    /// What it was drawn from.
    pub seed: u64,
    /// Its phases in order.
    pub phases: Vec<Phase>,
    /// Its tests; phase `p` trains what test `phases[p].task` measures.
    pub tests: Vec<Test>,
    sources: Vec<Source>,
    agents: Agents,
    batch: usize,
}

impl Stream {
    /// Draws the stream `kind` of a seed.
    pub fn draw(kind: StreamKind, seed: u64, settings: &Settings) -> Self {
        let mut rng = stream_rng(seed, Purpose::Task, kind as u64, 0);
        let steps = settings.steps(kind);
        let n_phases = settings.phases;
        let mut agents = Agents { count: 1, adversaries: 0 };
        let by_order = |task: &Transform| {
            let known = Transform { order: task.order, letters: Letters::Keep };
            tags_of(|old| *old == OldMeaning::Order(known)).first().copied()
        };
        let transformed = |t: Transform| Source { tag: by_order(&t), task: Box::new(t) };
        let sources: Vec<Source> = match kind {
            StreamKind::Arith => {
                let tags = shuffled(tags_of(|old| matches!(old, OldMeaning::Arithmetic(_))), &mut rng);
                let tasks = arithmetic(n_phases, &mut rng).into_iter().zip(tags);
                tasks.map(|(t, tag)| Source { task: Box::new(t), tag: Some(tag) }).collect()
            }
            StreamKind::Formal => {
                let tags = shuffled(tags_of(|old| matches!(old, OldMeaning::Language(_))), &mut rng);
                let tasks = languages(n_phases, &mut rng).into_iter().zip(tags);
                tasks.map(|(t, tag)| Source { task: Box::new(t), tag: Some(tag) }).collect()
            }
            StreamKind::Recall => {
                (0..n_phases).map(|_| Source { task: Box::new(Recall::draw(&mut rng)), tag: None }).collect()
            }
            StreamKind::Strings => transforms(n_phases, &mut rng).into_iter().map(transformed).collect(),
            StreamKind::Recurring => transforms(4, &mut rng).into_iter().map(transformed).collect(),
            StreamKind::Agents => {
                agents = Agents { count: settings.agents, adversaries: (seed % 4) as usize };
                let private = tags_of(|old| matches!(old, OldMeaning::Language(_))).first().copied();
                let mut sources: Vec<Source> = transforms(2, &mut rng).into_iter().map(transformed).collect();
                // The adversaries answer the shared rule's questions by another rule.
                sources[1].tag = sources[0].tag;
                let tables = (0..agents.count).map(|_| Source { task: Box::new(Recall::draw(&mut rng)), tag: private });
                sources.extend(tables);
                sources
            }
        };
        let test = |source: usize, agent: usize| {
            let Source { task, tag } = &sources[source];
            let mut rng = stream_rng(seed, Purpose::Evaluation, kind as u64, source as u64);
            let examples = draw_distinct(task.as_ref(), *tag, settings.test, &mut rng);
            Test { name: task.name(), agent, batch: token_batch(&examples), examples }
        };
        let (phases, tests) = match kind {
            StreamKind::Recurring => {
                // The ruler sequence: A every second phase, B every fourth, C every eighth, D every sixteenth.
                let order = (1..16_u32).map(|i| i.trailing_zeros() as usize);
                (order.map(|task| Phase { task, steps }).collect(), (0..4).map(|t| test(t, 0)).collect())
            }
            StreamKind::Agents => {
                let honest = 0..agents.count - agents.adversaries;
                let tests = honest.clone().map(|a| test(0, a)).chain(honest.map(|a| test(2 + a, a))).collect();
                (vec![Phase { task: 0, steps }], tests)
            }
            _ => {
                let phases = (0..sources.len()).map(|task| Phase { task, steps }).collect();
                (phases, (0..sources.len()).map(|t| test(t, 0)).collect())
            }
        };
        Self { kind, seed, phases, tests, sources, agents, batch: settings.batch(kind) }
    }

    /// Agents that learn.
    pub fn n_agents(&self) -> usize {
        self.agents.count
    }

    /// Agents that are systematically wrong about the shared rule.
    pub fn n_adversaries(&self) -> usize {
        self.agents.adversaries
    }

    /// Steps of all phases.
    pub fn total_steps(&self) -> usize {
        self.phases.iter().map(|phase| phase.steps).sum()
    }

    /// The problems of a step of a phase: one batch an agent.
    pub fn batches(&self, phase: usize, step: usize) -> Vec<AgentBatch> {
        let index = (phase as u64) << 32 | step as u64;
        (0..self.agents.count)
            .map(|agent| {
                let address = self.kind as u64 | (agent as u64 + 1) << 8;
                let mut rng = stream_rng(self.seed, Purpose::Demonstration, address, index);
                let examples = match self.kind {
                    StreamKind::Agents => {
                        let wrong = agent >= self.agents.count - self.agents.adversaries;
                        (0..self.batch)
                            .map(|i| self.problem(if i % 2 == 0 { usize::from(wrong) } else { 2 + agent }, &mut rng))
                            .collect()
                    }
                    _ => (0..self.batch).map(|_| self.problem(self.phases[phase].task, &mut rng)).collect(),
                };
                AgentBatch { agent, examples }
            })
            .collect()
    }

    /// The problems of a step when all tasks are trained at once.
    pub fn joint_batches(&self, step: usize) -> Vec<AgentBatch> {
        if self.kind == StreamKind::Agents {
            return self.batches(0, step);
        }
        let mut rng = stream_rng(self.seed, Purpose::Demonstration, self.kind as u64, step as u64);
        let examples = (0..self.batch).map(|_| {
            let task = rng.random_range(0..self.sources.len());
            self.problem(task, &mut rng)
        });
        vec![AgentBatch { agent: 0, examples: examples.collect() }]
    }

    fn problem(&self, source: usize, rng: &mut StreamRng) -> Example {
        let Source { task, tag } = &self.sources[source];
        draw(task.as_ref(), *tag, rng)
    }
}
