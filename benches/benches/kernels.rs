//! Criterion over the same kernels as `cargo xtask bench kernels`, for work on one of them:
//! `cargo bench -p krystal-benches --bench kernels -- linear/8x512`. `KRYSTAL_SIMD=avx2|portable` chooses an instruction set.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{Criterion, Throughput};
use krystal_benches::kernel_cases;
use krystal_lm::kernels::cpu::Cpu;

fn main() {
    // Another pool, or no cases, would be other measurements than asked for.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the thread pool is made here first");
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for mut case in kernel_cases().expect("the models' configurations are fixed") {
        let mut group = criterion.benchmark_group(case.kernel);
        group.throughput(Throughput::Elements(case.work as u64));
        group.bench_function(format!("{}/{}", case.shape, Cpu::instruction_set()), |b| b.iter(|| (case.ours)()));
        for (label, mut routine) in ["gemm", "gemm transposed"].into_iter().zip(case.gemm.into_iter().flatten()) {
            group.bench_function(format!("{}/{label}", case.shape), |b| b.iter(&mut routine));
        }
        group.finish();
    }
    criterion.final_summary();
}
