//! Several hosted models, and a router that learns which of them to ask.

use std::time::Instant;

use krystal::math::statistics::{mean, wilson_interval};
use serde_json::{Value, json};

use super::Options;
use super::hosted::{Problems, Scored, passes};
use super::summary::Summary;
use crate::cli::Global;
use crate::failure::usage;
use crate::hosted::routing::{Features, Router, Table, Worth, replay};
use crate::hosted::{
    Answer, Asked, Hosted, Journal, Limits, Question, Spending, ask_all, ask_showing, dollars, runtime, unfinished,
};
use crate::interrupt;
use crate::terminal::Terminal;
use crate::training::percent;

/// What asking several models takes.
struct Contest {
    models: Vec<Hosted>,
    problems: Problems,
    /// `[model][problem]`
    questions: Vec<Vec<Question>>,
    features: Features,
    worth: Worth,
    journal: Journal,
}

impl Contest {
    fn new(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<Self> {
        if options.sampling.samples != 1 {
            return Err(usage("--route has one answer to each problem: expected no --samples"));
        }
        if options.sampling.out.is_some() {
            return Err(usage("--route writes no --out: --answers has what was answered"));
        }
        let models: Vec<Hosted> = options
            .provider
            .iter()
            .map(|target| Hosted::connect(target, &options.hosted))
            .collect::<anyhow::Result<_>>()?;
        let problems = Problems::new(options, global, terminal)?;
        let draws = options.draws(global);
        let questions = models.iter().map(|model| draws.questions(model, &problems.records));
        let questions: Vec<Vec<Question>> = questions.collect::<anyhow::Result<_>>()?;
        let keys = |model: usize| questions[model].iter().map(|question| question.key.as_str());
        if let Some(same) = (1..models.len()).find(|&model| (0..model).any(|other| keys(other).eq(keys(model)))) {
            return Err(usage(format!("--provider {} is given twice", models[same].target())));
        }
        let features = Features::of(&problems.records);
        let worth = Worth { latency: options.routing.latency_weight, cost: options.routing.cost_weight };
        let journal = Journal::open(&options.answers)?;
        Ok(Self { models, problems, questions, features, worth, journal })
    }

    /// What an answer is worth.
    fn worth(&self, scored: &Scored<'_>, threshold: f64) -> f64 {
        let quality = if passes(&scored.reward, threshold) { 1.0 } else { 0.0 };
        self.worth.of(quality, scored.answer.seconds, scored.answer.cost_usd)
    }

    /// The worth of what models answered, of the problems that all have answered, and which these are.
    fn table(&self, found: &[Vec<Option<&Answer>>], threshold: f64) -> anyhow::Result<(Table, Vec<usize>)> {
        let mut worths = Vec::with_capacity(found.len());
        for answers in found {
            let mut row = vec![None; answers.len()];
            let given = answers.iter().enumerate().filter_map(|(i, answer)| Some((i, i, (*answer)?))).collect();
            for scored in self.problems.score(given)? {
                row[scored.place] = Some(self.worth(&scored, threshold));
            }
            worths.push(row);
        }
        let n = self.problems.records.len();
        let whole: Vec<usize> = (0..n).filter(|i| worths.iter().all(|row| row[*i].is_some())).collect();
        let rows = whole.iter().map(|i| worths.iter().filter_map(|row| row[*i]).collect()).collect();
        Ok((Table { rows }, whole))
    }
}

/// Asks every model everything, and replays routers over the answers.
pub(super) fn compare(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut contest = Contest::new(options, global, terminal)?;
    let n = contest.problems.records.len();
    let pairs = contest.models.iter().zip(&contest.questions);
    let questions: Vec<(&Hosted, Question)> =
        pairs.flat_map(|(model, questions)| questions.iter().map(move |question| (model, question.clone()))).collect();
    let asked = ask_showing(&questions, &mut contest.journal, &options.hosted, "the same command", terminal)?;
    drop(questions);
    let mut found = vec![vec![None; n]; contest.models.len()];
    for (place, answer) in asked.answers() {
        found[place / n][place % n] = Some(answer);
    }
    let mut summary = Summary::new(terminal);
    let models = models(&contest, &found, options.threshold)?;
    let (table, whole) = contest.table(&found, options.threshold)?;
    let Some((best, best_worth)) = table.best_fixed() else {
        anyhow::bail!("no problem was answered by all models: {}", failures(&asked));
    };
    let features = contest.features.only(&whole);
    let replay = replay(&table, &features, options.routing.route_seeds.get(), global.seed)?;
    terminal.line(&format!(
        "{:28} {:26} {:>9} {:>10} {:>8} {:>8} {:>8}",
        "", "pass@1, 95 % interval", "seconds", "cost", "worth", "regret", "learned"
    ));
    let mut rows = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let (fixed, share) = (table.fixed(i), replay.shares[i]);
        let regret = fixed - replay.worth;
        terminal.line(&format!(
            "{:28} {:26} {:>9.2} {:>10} {:>8.4} {:>8.4} {:>8}",
            model.target,
            model.pass_text(),
            model.seconds,
            model.cost.map_or_else(|| "-".to_owned(), dollars),
            rounded(fixed),
            rounded(best_worth - fixed),
            percent(share),
        ));
        rows.push(json!({
            "provider": model.target, "pass@1": model.pass, "pass@1_low": model.low, "pass@1_high": model.high,
            "answers": model.answers, "seconds": model.seconds, "cost_usd": model.cost, "worth": fixed,
            "regret": best_worth - fixed, "learned_regret": regret, "learned_share": share,
        }));
    }
    let line = |name: &str, worth: f64, regret: f64, note: &str| {
        let (worth, regret) = (rounded(worth), rounded(regret));
        let text = format!("{name:28} {:26} {:>9} {:>10} {worth:>8.4} {regret:>8.4} {note}", "", "", "");
        terminal.line(text.trim_end());
    };
    let note = format!(
        "+- {:.4} over {} seeds, 90 % in [{:.4}, {:.4}], better than the best in {}",
        replay.regret_std,
        replay.seeds,
        replay.regret_range.0,
        replay.regret_range.1,
        percent(replay.won)
    );
    line("learned", replay.worth, replay.regret, &note);
    line("chosen blindly", table.random(), best_worth - table.random(), "");
    line("best for each problem", table.oracle(), best_worth - table.oracle(), "");
    let verdict = if replay.regret_range.1 < -SAME {
        "the learned router beats the best fixed choice".to_owned()
    } else if replay.regret_range.0 > SAME {
        format!("the learned router loses to {}: ask that one alone", models[best].target)
    } else {
        "the learned router and the best fixed choice cannot be told apart".to_owned()
    };
    summary.line("verdict", &format!("{verdict} ({} problems)", whole.len()));
    tell(&mut summary, &asked, n - whole.len(), started);
    summary.field("n", json!(n));
    summary.field("compared", json!(whole.len()));
    summary.field("providers", Value::Array(rows));
    summary.field("best_fixed", json!(models[best].target));
    summary.field(
        "learned",
        json!({
            "seeds": replay.seeds, "worth": replay.worth, "worth_std": replay.worth_std, "regret": replay.regret,
            "regret_std": replay.regret_std, "regret_p5": replay.regret_range.0, "regret_p95": replay.regret_range.1,
            "won": replay.won,
        }),
    );
    summary.field("random_worth", json!(table.random()));
    summary.field("oracle_worth", json!(table.oracle()));
    summary.end();
    Ok(())
}

/// Differences in worth below this, in right answers, are none: seconds are never the same twice.
const SAME: f64 = 0.001;

/// With as many digits as are shown, and without a sign of nothing.
fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4 + 0.0
}

/// How one model did.
struct Model {
    target: String,
    answers: usize,
    pass: f64,
    low: f64,
    high: f64,
    /// Mean of an answer.
    seconds: f64,
    /// Of all answers.
    cost: Option<f64>,
}

impl Model {
    fn pass_text(&self) -> String {
        format!("{} [{}, {}]", percent(self.pass), percent(self.low), percent(self.high))
    }
}

/// How every model did on what it answered.
fn models(contest: &Contest, found: &[Vec<Option<&Answer>>], threshold: f64) -> anyhow::Result<Vec<Model>> {
    let mut models = Vec::with_capacity(found.len());
    for (hosted, answers) in contest.models.iter().zip(found) {
        let given = answers.iter().enumerate().filter_map(|(i, answer)| Some((i, i, (*answer)?))).collect();
        let scored = contest.problems.score(given)?;
        let mut spending = Spending::default();
        scored.iter().for_each(|scored| spending.add(scored.answer));
        let n = scored.len();
        let pass = scored.iter().filter(|scored| passes(&scored.reward, threshold)).count() as f64 / n.max(1) as f64;
        let (low, high) = wilson_interval(pass, n);
        let seconds: Vec<f64> = scored.iter().map(|scored| scored.answer.seconds).collect();
        let seconds = if n == 0 { 0.0 } else { mean(&seconds) };
        let target = hosted.target().to_owned();
        models.push(Model { target, answers: n, pass, low, high, seconds, cost: spending.cost() });
    }
    Ok(models)
}

/// What there is to say about answers beside their worth.
fn tell(summary: &mut Summary, asked: &Asked, left_out: usize, started: Instant) {
    if left_out > 0 {
        summary.line("left out", &format!("{left_out} problems that not all have answered: {}", failures(asked)));
    }
    let answers = asked.answers().count();
    summary.line("answers", &format!("{answers}, {} from before", asked.kept));
    summary.line("tokens", &asked.spending.text());
    summary.line("time", &format!("{:.1} s", started.elapsed().as_secs_f64()));
    summary.field("answers", json!(answers));
    summary.field("kept", json!(asked.kept));
    summary.field("failed", json!(asked.failures()));
    summary.field("seconds", json!(started.elapsed().as_secs_f64()));
    for (name, value) in asked.spending.json() {
        summary.field(name, value);
    }
}

fn failures(asked: &Asked) -> String {
    let kinds: Vec<String> = asked.failures().iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let first = asked.first_failure().map_or_else(String::new, |failure| format!("; the first: {failure}"));
    format!("{}{first}", kinds.join(", "))
}

/// Asks the model that a router chooses for each problem. As many problems as may be under way are chosen for at once; the router
/// learns when their answers are there, in the order of the problems.
pub(super) fn learned(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut contest = Contest::new(options, global, terminal)?;
    let n = contest.problems.records.len();
    let mut router = Router::new(contest.models.len(), contest.features.dim(), global.seed)?;
    let runtime = runtime()?;
    interrupt::listen("stopping; what was answered is kept");
    let mut progress = terminal.progress("asking", n);
    progress.set(0, "");
    let mut chosen = Vec::with_capacity(n);
    let mut asked = Asked::default();
    while chosen.len() < n {
        let window: Vec<usize> = (chosen.len()..n).take(options.hosted.concurrency.get()).collect();
        for i in &window {
            chosen.push(router.choose(contest.features.row(*i))?);
        }
        let questions: Vec<(&Hosted, Question)> =
            window.iter().map(|i| (&contest.models[chosen[*i]], contest.questions[chosen[*i]][*i].clone())).collect();
        let limits = Limits {
            concurrency: options.hosted.concurrency,
            max_cost: options.hosted.max_cost,
            before: Some(asked.spending.cost_usd),
            max_calls: None,
            listens: true,
        };
        let some = runtime.block_on(ask_all(&questions, &mut contest.journal, limits, &mut |_, _, _| {}))?;
        drop(questions);
        let given = some.answers().map(|(place, answer)| (place, window[place], answer)).collect();
        let mut worths = vec![None; window.len()];
        for scored in contest.problems.score(given)? {
            worths[scored.place] = Some(contest.worth(&scored, options.threshold));
        }
        for (place, i) in window.iter().enumerate() {
            // A model that does not answer is worth nothing to whoever asks.
            let worth = match &some.outcomes[place] {
                Some(Ok(_)) => worths[place].unwrap_or(0.0),
                Some(Err(_)) => 0.0,
                None => continue,
            };
            router.learn(contest.features.row(*i), chosen[*i], worth)?;
        }
        asked.append(some);
        progress.set(chosen.len(), &asked.spending.text());
        let answers = asked.answers().count();
        if let Some(error) =
            unfinished(&asked.ended, (answers, n), &contest.journal, &options.hosted, "the same command")
        {
            return Err(error);
        }
    }
    drop(progress);
    if asked.answers().count() == 0 {
        anyhow::bail!("not one of {n} questions was answered: {}", failures(&asked));
    }
    let scored = contest.problems.score(asked.answers().map(|(i, answer)| (i, i, answer)).collect())?;
    let worths: Vec<f64> = scored.iter().map(|scored| contest.worth(scored, options.threshold)).collect();
    let passed = scored.iter().filter(|scored| passes(&scored.reward, options.threshold)).count();
    let pass = passed as f64 / scored.len() as f64;
    let (low, high) = wilson_interval(pass, scored.len());
    let mut summary = Summary::new(terminal);
    summary.line("pass@1", &format!("{} [{}, {}], 95 % interval", percent(pass), percent(low), percent(high)));
    summary.line("problems", &n.to_string());
    let worth = mean(&worths);
    summary.line("worth", &format!("{worth:.4} per answer"));
    let shares: Vec<Value> = (0..contest.models.len())
        .map(|model| {
            let count = chosen.iter().filter(|chosen| **chosen == model).count();
            let target = contest.models[model].target();
            summary.line("asked", &format!("{count:>6} {target}"));
            json!({ "provider": target, "asked": count })
        })
        .collect();
    // What the others would have said is known where they were asked before.
    let known: Vec<Vec<Option<&Answer>>> = contest
        .questions
        .iter()
        .map(|questions| questions.iter().map(|question| contest.journal.find(&question.key)).collect())
        .collect();
    let (table, whole) = contest.table(&known, options.threshold)?;
    let regret = match table.best_fixed() {
        Some((best, best_worth)) if whole.len() == n => {
            let own = mean(&table.rows.iter().zip(&chosen).map(|(row, model)| row[*model]).collect::<Vec<_>>());
            let regret = best_worth - own;
            summary
                .line("regret", &format!("{regret:.4} per problem, against {} for all", contest.models[best].target()));
            Some(regret)
        }
        _ => {
            summary.line("regret", "not known before all have answered: --route compare asks them");
            None
        }
    };
    tell(&mut summary, &asked, 0, started);
    if !asked.failures().is_empty() {
        summary.line("failed", &format!("{}; the same command asks again", failures(&asked)));
    }
    for (name, value) in [
        ("n", json!(n)),
        ("pass@1", json!(pass)),
        ("pass@1_low", json!(low)),
        ("pass@1_high", json!(high)),
        ("worth", json!(worth)),
        ("regret", json!(regret)),
        ("providers", Value::Array(shares)),
    ] {
        summary.field(name, value);
    }
    summary.end();
    Ok(())
}
