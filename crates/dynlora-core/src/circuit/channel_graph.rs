//! Channels that act together.

/// Neighbours that count: two channels are joined where each is among the nearest of the other.
const NEIGHBOURS: usize = 3;
/// A circuit larger than this is cut at its weakest links. Where all channels share one factor, mutual neighbours alone still join
/// up to half of them (59 of 120 in one draw of the test below): the graph is near its percolation threshold.
const MAX_NODES: usize = 16;
/// An edge is a correlation beyond four standard deviations of none.
const DEVIATIONS: f64 = 4.0;

/// A set of channels and the edges within it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Component {
    /// Nodes, ascending.
    pub(super) nodes: Vec<usize>,
    /// Pairs of positions in `nodes`, the smaller first.
    pub(super) edges: Vec<(u32, u32)>,
    /// Mean strength of its edges; 0 without.
    pub(super) coherence: f64,
}

/// Connected components of the graph whose edges are significant and mutual (R39).
///
/// `strength(i, j)` is `(|correlation|, samples)`. An edge needs `|correlation| > 4 / sqrt(samples)` and that each of the two
/// is among the three strongest of the other: thresholds alone join everything into one giant component as soon as a
/// channel has more than one edge on average. Departing from R39, a component ends at 16 channels. `O(n^2)`.
pub(super) fn components(n: usize, strength: impl Fn(usize, usize) -> (f64, f64)) -> Vec<Component> {
    let mut nearest: Vec<Vec<(f64, usize)>> = vec![Vec::with_capacity(NEIGHBOURS + 1); n];
    for i in 0..n {
        for j in i + 1..n {
            let (correlation, samples) = strength(i, j);
            // Also leaves out what is no number.
            if correlation > DEVIATIONS / samples.max(1.0).sqrt() {
                insert(&mut nearest[i], correlation, j);
                insert(&mut nearest[j], correlation, i);
            }
        }
    }
    let mut mutual = Vec::new();
    for i in 0..n {
        for &(correlation, j) in &nearest[i] {
            if i < j && nearest[j].iter().any(|(_, back)| *back == i) {
                mutual.push((i, j, correlation));
            }
        }
    }
    // The strongest first, so that what is left out for size is the weakest link.
    mutual.sort_by(|x, y| y.2.total_cmp(&x.2));
    let mut parent: Vec<usize> = (0..n).collect();
    let mut size = vec![1; n];
    for &(i, j, _) in &mutual {
        let (x, y) = (root(&mut parent, i), root(&mut parent, j));
        if x != y && size[x] + size[y] <= MAX_NODES {
            // The smaller is the root: components come in order.
            let (root, other) = (x.min(y), x.max(y));
            parent[other] = root;
            size[root] += size[other];
        }
    }
    let mut found: Vec<Component> = Vec::new();
    let mut of_root = vec![usize::MAX; n];
    for i in 0..n {
        let r = root(&mut parent, i);
        if of_root[r] == usize::MAX {
            of_root[r] = found.len();
            found.push(Component { nodes: Vec::new(), edges: Vec::new(), coherence: 0.0 });
        }
        found[of_root[r]].nodes.push(i);
    }
    for (i, j, correlation) in mutual {
        if root(&mut parent, i) != root(&mut parent, j) {
            continue;
        }
        let component = &mut found[of_root[root(&mut parent, i)]];
        let position = |node: usize| component.nodes.partition_point(|other| *other < node) as u32;
        let edge = (position(i), position(j));
        component.edges.push(edge);
        component.coherence += correlation;
    }
    for component in &mut found {
        component.coherence /= component.edges.len().max(1) as f64;
    }
    found
}

/// Keeps the strongest, the first of equals.
fn insert(nearest: &mut Vec<(f64, usize)>, correlation: f64, node: usize) {
    let at = nearest.partition_point(|(other, _)| *other >= correlation);
    nearest.insert(at, (correlation, node));
    nearest.truncate(NEIGHBOURS);
}

fn root(parent: &mut [usize], mut node: usize) -> usize {
    while parent[node] != node {
        parent[node] = parent[parent[node]];
        node = parent[node];
    }
    node
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};
    use rand::RngExt;

    use super::*;

    /// Correlations of `n` series of `samples` values, each `loading(node)` of a factor and the rest noise.
    fn correlations(n: usize, samples: usize, factor: impl Fn(usize) -> (usize, f64)) -> Vec<Vec<f64>> {
        let mut rng = stream_rng(8, Purpose::Weights, 4, n as u64);
        let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let factors: Vec<Vec<f64>> = (0..n).map(|_| (0..samples).map(|_| normal()).collect()).collect();
        let series: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let (of, loading) = factor(i);
                factors[of].iter().map(|f| loading * f + (1.0 - loading * loading).sqrt() * normal()).collect()
            })
            .collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let of = |x: &[f64], y: &[f64]| (dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()).abs();
        series.iter().map(|x| series.iter().map(|y| of(x, y)).collect()).collect()
    }

    #[test]
    fn planted_circuits_are_found_exactly() {
        let c = correlations(40, 400, |i| if i < 20 { (i / 4, 0.9) } else { (i, 0.0) });
        let found = components(40, |i, j| (c[i][j], 400.0));
        let large: Vec<&Component> = found.iter().filter(|component| component.nodes.len() > 1).collect();
        let nodes: Vec<Vec<usize>> = large.iter().map(|component| component.nodes.clone()).collect();
        let expected: Vec<Vec<usize>> = (0..5).map(|block| (4 * block..4 * block + 4).collect()).collect();
        assert_eq!(nodes, expected);
        assert!(large.iter().all(|component| component.coherence > 0.7 && component.edges.len() == 6));
        assert_eq!(found.len(), 25, "the others are alone");
    }

    #[test]
    fn no_giant_component_where_everything_correlates() {
        // A factor that all share: every pair is far beyond the threshold, the mean degree is n - 1.
        for n in [60, 120, 200, 400, 800] {
            let c = correlations(n, 400, |_| (0, 0.7));
            let significant = |i: usize, j: usize| c[i][j] > 4.0 / 20.0;
            let degree = (0..n).map(|i| (0..n).filter(|j| *j != i && significant(i, *j)).count()).sum::<usize>();
            assert!(degree as f64 / n as f64 > 0.95 * n as f64, "mean degree {}", degree as f64 / n as f64);
            let largest = components(n, |i, j| (c[i][j], 400.0)).iter().map(|c| c.nodes.len()).max().unwrap();
            assert!(largest <= MAX_NODES, "{largest} of {n}");
        }
    }

    #[test]
    fn noise_and_nonsense_join_nothing() {
        let c = correlations(50, 200, |i| (i, 0.0));
        assert_eq!(components(50, |i, j| (c[i][j], 200.0)).len(), 50);
        assert_eq!(components(4, |_, _| (f64::NAN, 100.0)).len(), 4);
        assert_eq!(components(0, |_, _| (1.0, 1.0)), []);
        assert_eq!(components(2, |_, _| (1.0, 0.0)).len(), 2, "no samples, no edge");
    }
}
