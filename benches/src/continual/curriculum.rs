//! Which tasks the base model knows, and which new ones the streams draw.

use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::RngExt;

use super::symbols::STREAM_TAGS;
use super::tasks::{Arithmetic, Language, Letters, MODULUS, Order, Transform};

pub(super) fn shuffled<T>(mut values: Vec<T>, rng: &mut StreamRng) -> Vec<T> {
    for i in (1..values.len()).rev() {
        values.swap(i, rng.random_range(0..=i));
    }
    values
}

/// What a tag of the streams means to the base model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldMeaning {
    /// An order of the letters, which stay what they are.
    Order(Transform),
    /// A language.
    Language(Language),
    /// An operation.
    Arithmetic(Arithmetic),
}

/// What each tag of the streams means to the base model: a stream gives it a new meaning of the same family. A transform's
/// tag keeps its order and gets a change of letters, which the base model knows too, but under other tags.
pub fn stream_tags() -> Vec<OldMeaning> {
    let orders = ORDERS.map(|order| OldMeaning::Order(Transform { order, letters: Letters::Keep }));
    let languages = base_languages().into_iter().take(5).map(OldMeaning::Language);
    let operations = base_arithmetic().into_iter().take(5).map(OldMeaning::Arithmetic);
    orders.into_iter().chain(languages).chain(operations).collect()
}

pub(super) fn tags_of(wanted: impl Fn(&OldMeaning) -> bool) -> Vec<u32> {
    (STREAM_TAGS..).zip(stream_tags()).filter(|(_, old)| wanted(old)).map(|(tag, _)| tag).collect()
}

/// Operations that the base model was not trained on.
pub(super) fn arithmetic(count: usize, rng: &mut StreamRng) -> Vec<Arithmetic> {
    let known = base_arithmetic();
    let mut drawn: Vec<Arithmetic> = Vec::new();
    while drawn.len() < count {
        let mut one = || rng.random_range(1..MODULUS);
        let (alpha, beta, delta) = (one(), one(), one());
        let task = Arithmetic { alpha, beta, gamma: 0, delta };
        if !known.contains(&task) && !drawn.contains(&task) {
            drawn.push(task);
        }
    }
    drawn
}

/// Languages that the base model was not trained on.
pub(super) fn languages(count: usize, rng: &mut StreamRng) -> Vec<Language> {
    let known = base_languages();
    let first = rng.random_range(0..3);
    let mut automaton = |states| loop {
        let drawn = Language::draw_reset_automaton(states, rng);
        if !known.contains(&drawn) {
            break drawn;
        }
    };
    let pool = vec![
        Language::Even { from: 4, of: 5, alphabet: 3 },
        Language::Dyck { kinds: 1 },
        Language::Dyck { kinds: 2 },
        Language::Equal { first, second: first + 1 },
        automaton(3),
        automaton(4),
    ];
    let mut pool = shuffled(pool, rng);
    pool.truncate(count);
    pool
}

/// Transforms that the base model was not trained on: compositions, new to it, of an order and a change of letters that it
/// knows, each from the other half of the table [`composed`].
pub(super) fn transforms(count: usize, rng: &mut StreamRng) -> Vec<Transform> {
    let mut pool = shuffled(composed(1), rng);
    // As many different orders as there are, then any.
    let mut drawn: Vec<Transform> = Vec::new();
    while drawn.len() < count {
        let new = |t: &Transform| drawn.iter().all(|d| d.order != t.order && d.letters != t.letters);
        let next = pool.iter().position(new).or_else(|| {
            let new = |t: &Transform| drawn.iter().all(|d| d.order != t.order);
            pool.iter().position(new)
        });
        drawn.push(pool.remove(next.unwrap_or(0)));
    }
    drawn
}

/// Every second composition of an order and a change of letters, from `first` (0 or 1).
fn composed(first: usize) -> Vec<Transform> {
    let all = ORDERS.iter().enumerate().flat_map(|(i, order)| {
        LETTERS.iter().enumerate().map(move |(j, letters)| (i + j, Transform { order: *order, letters: *letters }))
    });
    all.filter(|(place, _)| place % 2 == first).map(|(_, transform)| transform).collect()
}

const ORDERS: [Order; 6] =
    [Order::Reverse, Order::Rotate(1), Order::Rotate(2), Order::Rotate(3), Order::First(2), Order::Last(2)];

const LETTERS: [Letters; 4] = [Letters::Rotate(1), Letters::Rotate(3), Letters::SwapCase, Letters::Mirror];

/// The operations the base model is trained on.
pub fn base_arithmetic() -> Vec<Arithmetic> {
    let mut rng = stream_rng(0, Purpose::Task, 0, 1);
    let mut drawn: Vec<Arithmetic> = Vec::new();
    while drawn.len() < 12 {
        let mut one = || rng.random_range(1..MODULUS);
        let task = Arithmetic { alpha: one(), beta: one(), gamma: 0, delta: one() };
        if !drawn.contains(&task) {
            drawn.push(task);
        }
    }
    drawn
}

/// The languages the base model is trained on.
pub fn base_languages() -> Vec<Language> {
    let mut rng = stream_rng(0, Purpose::Task, 0, 0);
    let mut languages = vec![
        Language::Count { from: 0, of: 0, alphabet: 3, modulus: 3 },
        Language::Count { from: 4, of: 5, alphabet: 3, modulus: 2 },
        Language::SameEnds { alphabet: 3 },
        Language::Majority { of: 0, over: 1 },
        Language::Majority { of: 2, over: 1 },
        Language::Depth { kinds: 1 },
        Language::Depth { kinds: 2 },
    ];
    languages.extend((0..3).map(|_| Language::draw_reset_automaton(3, &mut rng)));
    languages
}

/// The transforms the base model is trained on: every order and every change of letters alone, and half of their
/// compositions.
pub fn base_transforms() -> Vec<Transform> {
    let letters = LETTERS.map(|letters| Transform { order: Order::Keep, letters });
    let orders = ORDERS.map(|order| Transform { order, letters: Letters::Keep });
    letters.into_iter().chain(orders).chain(composed(0)).collect()
}
