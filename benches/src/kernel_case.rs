//! The kernels that are timed, at the shapes that matter to training on a processor.
//!
//! Letters as in [`krystal_lm::kernels`]. Shapes of products are `rows x in x out`.

use std::sync::Arc;

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::kernels::{AttentionShape, CachedQuery, Kernels, LogProbWeights, RopeTable, Rotation, Segment, Write};
use krystal_lm::{Decoder, GenerateOptions, PromptRequest, decoder_from, generate, initial_tensors};
use krystal_math::rng::{Purpose, stream_rng};
use krystal_math::sampling::{Sampling, draw, probabilities};
use rand::RngExt;

use crate::Size;
use crate::gemm::{View, product};

/// Something to be timed, again and again, on data made before.
pub type Routine = Box<dyn FnMut()>;

/// A kernel at a shape.
pub struct Case {
    /// What is computed.
    pub kernel: &'static str,
    /// At which shape.
    pub shape: String,
    /// Units of work in a call.
    pub work: f64,
    /// What a unit of work is: `flop`, `element`, `draw` or `token`.
    pub unit: &'static str,
    /// Our kernel.
    pub ours: Routine,
    /// The same by `gemm`, as written and with the result transposed, where it is a matrix product.
    pub gemm: Option<[Routine; 2]>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("kernel", &self.kernel).field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Every case, its data made.
///
/// # Errors
/// If a model cannot be made, which its fixed configurations do not allow.
pub fn kernel_cases() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (rows, k, n) in
        [(1, 512, 1536), (8, 512, 1536), (16, 512, 1536), (64, 512, 1536), (512, 512, 1536), (64, 896, 4864)]
    {
        cases.extend(products(rows, k, n));
    }
    cases.extend(attention());
    cases.extend(log_prob(512, 512, 512));
    cases.extend(log_prob(64, 512, 32_768));
    cases.extend(elementwise(512, 1536));
    cases.push(truncated_draw(32_768));
    cases.push(plain_draw(32_768)?);
    cases.extend(decode()?);
    Ok(cases)
}

/// `len` numbers in [-1, 1).
fn numbers(len: usize, index: u64) -> Vec<f32> {
    let mut rng = stream_rng(0, Purpose::Weights, 0, index);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// `y = x w^T`, `dx = dy w` and `dw += dy^T x` for `x (rows, k)` and `w (n, k)`.
fn products(rows: usize, k: usize, n: usize) -> [Case; 3] {
    let (x, dy, w) = (numbers(rows * k, 1), numbers(rows * n, 2), numbers(n * k, 3));
    let matrix = Arc::new(Cpu.matrix(&w, n, k));
    let [x, dy, w] = [x, dy, w].map(Arc::new);
    let (x_view, y_view, w_view) = (View::rows_of(k), View::rows_of(n), View::rows_of(k));
    // The product `out = left right`, and `out^T = right^T left^T` in rows of its own: gemm sees through a mere exchange of
    // strides, so only this makes it pack the other operand. Turning the result round is not counted.
    let both = |(m, n, k): (usize, usize, usize), left: (&Arc<Vec<f32>>, View), right: (&Arc<Vec<f32>>, View), add| {
        let make = |transpose: bool| -> Routine {
            let (left, left_view, right, right_view) = (left.0.clone(), left.1, right.0.clone(), right.1);
            let mut to = vec![0.0; m * n];
            Box::new(move || match transpose {
                false => product((m, n, k), (&mut to, View::rows_of(n)), (&left, left_view), (&right, right_view), add),
                true => product(
                    (n, m, k),
                    (&mut to, View::rows_of(m)),
                    (&right, right_view.transposed()),
                    (&left, left_view.transposed()),
                    add,
                ),
            })
        };
        Some([make(false), make(true)])
    };
    let case = |kernel, ours, gemm| Case {
        kernel,
        shape: format!("{rows}x{k}x{n}"),
        work: 2.0 * (rows * k * n) as f64,
        unit: "flop",
        ours,
        gemm,
    };
    let forward: Routine = {
        let (x, matrix, mut y) = (x.clone(), matrix.clone(), Vec::new());
        Box::new(move || Cpu.linear(&x, rows, &matrix, None, &mut y, Write::Replace))
    };
    let backward: Routine = {
        let (dy, mut dx) = (dy.clone(), Vec::new());
        Box::new(move || Cpu.linear_backward(&dy, rows, &matrix, &mut dx, Write::Replace))
    };
    let weight: Routine = {
        let (x, dy, mut dw) = (x.clone(), dy.clone(), vec![0.0; n * k]);
        Box::new(move || Cpu.weight_gradient(&dy, n, &x, k, rows, &mut dw))
    };
    [
        case("linear", forward, both((rows, n, k), (&x, x_view), (&w, w_view.transposed()), false)),
        case("linear_backward", backward, both((rows, k, n), (&dy, y_view), (&w, w_view), false)),
        case("weight_gradient", weight, both((n, k, rows), (&dy, y_view.transposed()), (&x, x_view), true)),
    ]
}

/// One group of 8 completions of 64 tokens after a shared prompt of 64, in a layer of the medium model.
fn attention() -> [Case; 3] {
    const GROUP: usize = 8;
    const LENGTH: usize = 64;
    let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 64, window: None };
    let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let rows = (GROUP + 1) * LENGTH;
    let segments: Vec<Segment> =
        (0..=GROUP).map(|i| Segment { start: i * LENGTH, len: LENGTH, prefix: (i > 0).then_some(0) }).collect();
    let triangle = LENGTH * (LENGTH + 1) / 2;
    let pairs = (GROUP + 1) * triangle + GROUP * LENGTH * LENGTH;
    // Scores and values, two operations each per pair, head and dimension.
    let forward_work = (4 * pairs * width) as f64;
    let (q, k, v) = (numbers(rows * width, 4), numbers(rows * kv_width, 5), numbers(rows * kv_width, 6));
    let [q, k, v] = [q, k, v].map(Arc::new);
    let name = format!("{GROUP}x{LENGTH}");
    let forward: Routine = {
        let (q, k, v, segments, mut out) = (q.clone(), k.clone(), v.clone(), segments.clone(), Vec::new());
        Box::new(move || Cpu.attention(&q, &k, &v, &segments, shape, &mut out))
    };
    let backward: Routine = {
        let (q, k, v, d_out) = (q.clone(), k.clone(), v.clone(), numbers(rows * width, 7));
        let (mut out, mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Cpu.attention(&q, &k, &v, &segments, shape, &mut out);
        Box::new(move || {
            Cpu.attention_backward(&d_out, &q, &k, &v, &out, &segments, shape, &mut dq, &mut dk, &mut dv);
        })
    };
    let slot = |first: usize| {
        let mut slot = Cpu.kv_slot(1, shape.kv_heads, shape.head_dim);
        Cpu.kv_append(&mut slot, 0, &k, &v, first, LENGTH);
        slot
    };
    let slots: Vec<_> = (0..=GROUP).map(|i| slot(i * LENGTH)).collect();
    let cached: Routine = {
        let (q, mut out) = (q[..GROUP * width].to_vec(), Vec::new());
        Box::new(move || {
            let queries: Vec<_> = slots[1..]
                .iter()
                .enumerate()
                .map(|(row, own)| CachedQuery { row, prefix: Some(&slots[0]), own })
                .collect();
            Cpu.attention_cached(&q, &queries, 0, shape, &mut out);
        })
    };
    let case = |kernel, work, ours| Case { kernel, shape: name.clone(), work, unit: "flop", ours, gemm: None };
    [
        case("attention", forward_work, forward),
        // Scores again, and the gradients of scores, values, queries and keys.
        case("attention_backward", 2.5 * forward_work, backward),
        case("attention_cached", (4 * GROUP * 2 * LENGTH * width) as f64, cached),
    ]
}

/// Log-probability and entropy of `rows` targets among `vocabulary`, forward and backward.
fn log_prob(rows: usize, width: usize, vocabulary: usize) -> [Case; 2] {
    let hidden = Arc::new(numbers(rows * width, 8));
    let head = Arc::new(Cpu.matrix(&numbers(vocabulary * width, 9), vocabulary, width));
    let targets: Vec<u32> = (0..rows).map(|row| (row * 37 % vocabulary) as u32).collect();
    let work = 2.0 * (rows * width * vocabulary) as f64;
    let case = |kernel, work, ours| Case {
        kernel,
        shape: format!("{rows}x{width}x{vocabulary}"),
        work,
        unit: "flop",
        ours,
        gemm: None,
    };
    let forward: Routine = {
        let (hidden, head, targets) = (hidden.clone(), head.clone(), targets.clone());
        Box::new(move || {
            std::hint::black_box(Cpu.log_prob(&hidden, &head, &targets, 1.0));
        })
    };
    let scored = Cpu.log_prob(&hidden, &head, &targets, 1.0);
    let (weights, mut d_hidden) = (numbers(rows, 10), Vec::new());
    let backward: Routine = Box::new(move || {
        let weights = LogProbWeights { log_prob: &weights, entropy: &[] };
        Cpu.log_prob_backward(&hidden, &head, &targets, 1.0, &scored, weights, &mut d_hidden, None);
    });
    // Backward computes the logits again, then the product with their gradients.
    [case("log_prob", work, forward), case("log_prob_backward", 2.0 * work, backward)]
}

/// Kernels that visit every element once or twice.
fn elementwise(rows: usize, width: usize) -> [Case; 5] {
    let len = rows * width;
    let case = |kernel, ours| Case {
        kernel,
        shape: format!("{rows}x{width}"),
        work: len as f64,
        unit: "element",
        ours,
        gemm: None,
    };
    let (x, dy, weight) = (Arc::new(numbers(len, 11)), numbers(len, 12), numbers(width, 13));
    let norm: Routine = {
        let (x, weight, mut out) = (x.clone(), weight.clone(), Vec::new());
        Box::new(move || Cpu.rms_norm(&x, &weight, 1e-6, &mut out))
    };
    let norm_backward: Routine = {
        let (x, dy, mut dx) = (x.clone(), dy.clone(), Vec::new());
        Box::new(move || Cpu.rms_norm_backward(&dy, &x, &weight, 1e-6, &mut dx, Write::Replace, None))
    };
    let swiglu: Routine = {
        let (gate, up, mut out) = (x.clone(), dy.clone(), Vec::new());
        Box::new(move || Cpu.swiglu(&gate, &up, &mut out))
    };
    let swiglu_backward: Routine = {
        // The operands are replaced by their gradients, so each call needs them anew; the copies are part of the time.
        let (d_out, gate, up) = (numbers(len, 14), x.clone(), dy.clone());
        let (mut d_gate, mut d_up) = (Vec::new(), Vec::new());
        Box::new(move || {
            Cpu.copy(&gate, &mut d_gate);
            Cpu.copy(&up, &mut d_up);
            Cpu.swiglu_backward(&d_out, &mut d_gate, &mut d_up);
        })
    };
    let rope: Routine = {
        const HEAD_DIM: usize = 64;
        let frequencies: Vec<f64> =
            (0..HEAD_DIM / 2).map(|i| 10_000_f64.powf(-2.0 * i as f64 / HEAD_DIM as f64)).collect();
        let table = RopeTable::new(&frequencies, rows);
        let positions: Vec<u32> = (0..rows as u32).collect();
        // Rotations keep the length of every vector, so turning the same one again and again stays in range.
        let mut x = x.to_vec();
        Box::new(move || Cpu.rope(&mut x, HEAD_DIM, &positions, &table, Rotation::Forward))
    };
    [
        case("rms_norm", norm),
        case("rms_norm_backward", norm_backward),
        case("swiglu", swiglu),
        case("swiglu_backward", swiglu_backward),
        case("rope", rope),
    ]
}

/// A draw with top-p, which sorts the vocabulary.
fn truncated_draw(vocabulary: usize) -> Case {
    let logits: Vec<f32> = numbers(vocabulary, 15).into_iter().map(|x| 8.0 * x).collect();
    let sampling = Sampling { top_p: 0.95, ..Sampling::default() };
    let mut rng = stream_rng(0, Purpose::Generation, 0, 0);
    let ours: Routine = Box::new(move || {
        std::hint::black_box(draw(&probabilities(&logits, &[], &sampling), rng.random()));
    });
    Case { kernel: "draw_top_p", shape: format!("1x{vocabulary}"), work: 1.0, unit: "draw", ours, gemm: None }
}

/// Draws from the whole distribution, by a model that is hardly more than its vocabulary: 16 numbers wide, one block.
fn plain_draw(vocabulary: usize) -> anyhow::Result<Case> {
    let width = 16;
    let size = Size { hidden: width, intermediate: width, layers: 1, heads: 1, kv_heads: 1, ..Size::ALL[0] };
    let mut config = size.config();
    config.vocab_size = vocabulary;
    let model = decoder_from(config.clone(), &initial_tensors(&config, 0))?;
    Ok(Case { kernel: "draw", shape: format!("8x{vocabulary}"), unit: "draw", ..generation(Arc::new(model), 8, 16) })
}

/// Decoding with the small and the medium model of `grpo`.
fn decode() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for size in [Size::ALL[1], Size::ALL[2]] {
        let config = size.config();
        let model = Arc::new(decoder_from(config.clone(), &initial_tensors(&config, 0))?);
        for batch in [1, 8, 64] {
            let shape = format!("{}x{batch}", size.name);
            cases.push(Case { shape, ..generation(model.clone(), batch, 16) });
        }
    }
    Ok(cases)
}

/// `batch` completions of `length` tokens of one prompt of 4.
fn generation(model: Arc<Decoder>, batch: usize, length: usize) -> Case {
    let sampling = Sampling::default();
    let ours: Routine = Box::new(move || {
        let prompts = [PromptRequest { tokens: &[5, 6, 7, 8], stream: 0 }];
        let drawn = generate(&model, None, &prompts, batch, &GenerateOptions::new(&sampling, length, &[]));
        assert!(drawn.is_ok_and(|drawn| drawn[0].len() == batch), "generation was refused");
    });
    Case { kernel: "decode", shape: String::new(), work: (batch * length) as f64, unit: "token", ours, gemm: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_under_a_name_of_its_own() {
        let mut names: Vec<String> = Vec::new();
        for mut case in kernel_cases().unwrap() {
            (case.ours)();
            for mut routine in case.gemm.into_iter().flatten() {
                routine();
            }
            names.push(format!("{}.{}", case.kernel, case.shape));
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
