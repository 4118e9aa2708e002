//! How far particles are apart.

/// Average Euclidean distance of two rows; 0 where there are not two.
pub(crate) fn mean_distance(points: &[f64], n_dims: usize) -> f64 {
    let (mut total, mut count) = (0.0, 0_u32);
    for (i, a) in points.chunks_exact(n_dims).enumerate() {
        for b in points.chunks_exact(n_dims).skip(i + 1) {
            total += a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            count += 1;
        }
    }
    if count == 0 { 0.0 } else { total / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_of_the_sides_of_a_triangle() {
        assert_eq!(mean_distance(&[0.0, 0.0, 3.0, 0.0, 0.0, 4.0], 2), 4.0);
        assert_eq!(mean_distance(&[0.3, 0.4], 2), 0.0);
    }
}
