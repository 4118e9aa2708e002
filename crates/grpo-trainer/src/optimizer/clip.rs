//! Clipping of the gradient by its norm.

use krystal_math::statistics::sum;

use super::Real;

/// Euclidean norm of all gradients together, summed in `f64`.
pub fn gradient_norm<T: Real>(gradients: &[&mut [T]]) -> f64 {
    sum(gradients.iter().map(|g| sum(g.iter().map(|x| x.to_f64().powi(2))))).sqrt()
}

/// Scales the gradients so that their norm is at most `max_norm`; returns the norm before.
///
/// `torch.nn.utils.clip_grad_norm_`: the factor is `min(1, max_norm / (norm + 1e-6))`.
pub fn clip_gradients<T: Real>(gradients: &mut [&mut [T]], max_norm: f64) -> f64 {
    let norm = gradient_norm(gradients);
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        for x in gradients.iter_mut().flat_map(|g| g.iter_mut()) {
            *x = T::from_f64(x.to_f64() * factor);
        }
    }
    norm
}
