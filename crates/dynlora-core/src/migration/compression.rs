//! Making room in a layer that is full.

use krystal_math::low_rank::{LowRankSvd, dot_f32, inner_product, low_rank_svd};
use serde::{Deserialize, Serialize};

use super::LayerAddress;
use super::transfer::{LayerAccess, arrival_credit, take_copy};
use crate::{Channel, LoraLayer};

/// Length of a row of `A` after a decomposition: what a fresh row has on average, so that such channels train as fast as
/// others (R18). `U(-1/sqrt(d), 1/sqrt(d))` has a mean square of `1/(3 d)`. Where a singular value is larger than its square,
/// both rows get their half: were `b` to take all of it each time, steps of `A` would multiply the layer without bound.
const GAUGE: f64 = 0.577_350_269_189_625_8;

/// How a free channel was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// There was one.
    Free,
    /// The module's channels were decomposed and the smallest part pushed back into the faster layer: the sum is unchanged.
    Compressed,
    /// The module's channels were decomposed and the smallest part dropped.
    Truncated,
}

/// A free channel, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room {
    pub(super) channel: usize,
    pub(super) kind: RoomKind,
    /// Dropped part over the module's `|dW|_F` in the layers concerned; 0 where nothing was dropped.
    pub(super) truncation: f64,
    /// Frobenius norm of the change of the sum.
    pub(super) jump: f64,
}

/// A free channel of `slow` in `module`.
///
/// Where all are in use, those that are not moving are decomposed (QR and SVD of the factors, never of the product), the slow
/// layer keeps all but the smallest singular value, and every layer of `faster` takes that one into a free channel; where one of
/// them has none, it is dropped if it is below `tolerance` of the norm of what the layers hold together. `None`, and nothing
/// is touched, where neither can be done.
pub(super) fn make_room(
    layers: &mut dyn LayerAccess,
    slow: LayerAddress,
    faster: &[LayerAddress],
    module: usize,
    tolerance: f64,
) -> Option<Room> {
    let layer = slow.of(layers)?;
    if let Some(channel) = free_channel(layer, module) {
        return Some(Room { channel, kind: RoomKind::Free, truncation: 0.0, jump: 0.0 });
    }
    let used = still_channels(layer, module);
    // With one channel there is no smallest part: the layer would trade all it has.
    if used.len() < 2 {
        return None;
    }
    let old: Vec<Channel> = used.iter().map(|channel| layer.copy_channel(module, *channel)).collect();
    let svd = decompose(&old);
    if !svd.frobenius_norm().is_finite() {
        return None;
    }
    let keep = svd.rank().min(used.len() - 1);
    let tail = svd.truncation_error(keep).frobenius;
    let mut kind = RoomKind::Compressed;
    let mut truncation = 0.0;
    let mut homes = Vec::new();
    if svd.rank() > keep {
        for address in faster {
            homes.extend(address.of(layers).and_then(|layer| free_channel(layer, module)));
        }
        if faster.is_empty() || homes.len() < faster.len() {
            let squares: f64 = faster.iter().map(|address| module_norm(layers, *address, module).powi(2)).sum();
            truncation = tail / (module_norm(layers, slow, module).powi(2) + squares).sqrt();
            if truncation.is_nan() || truncation >= tolerance {
                return None;
            }
            (kind, homes) = (RoomKind::Truncated, Vec::new());
        }
    }
    let mut slots = by_activity(&used, &old);
    let freed = slots.pop()?;
    let mut new: Vec<Channel> = Vec::with_capacity(slots.len() + 1);
    for (i, slot) in slots.iter().enumerate() {
        new.push(if i < keep { term(&svd, i, &old[*slot]) } else { emptied(&old[*slot]) });
    }
    let layer = slow.of(layers)?;
    for (slot, channel) in slots.iter().zip(&new) {
        put_or_reset(layer, module, used[*slot], channel.clone());
    }
    layer.reset_channel(module, used[freed]);
    if svd.rank() > keep {
        for (address, home) in faster.iter().zip(homes) {
            let layer = address.of(layers)?;
            let template = layer.copy_channel(module, home);
            let tail = term(&svd, keep, &template);
            if new.len() == slots.len() {
                new.push(tail.clone());
            }
            layer.put_channel(module, home, tail);
        }
    }
    Some(Room { channel: used[freed], kind, truncation, jump: distance(&old, &new) })
}

/// Brings the fast layer's channel into a slow layer that is full in `module`, without a free channel anywhere: both are
/// decomposed together, the slow layer keeps the best approximation of its rank, and what remains takes the fast channel's
/// place. The sum is unchanged. Returns the slow channel that holds most of what moved, and the change of the sum.
///
/// All at once, unlike a handoff: the caller meters it before.
pub(super) fn exchange(
    layers: &mut dyn LayerAccess,
    fast: LayerAddress,
    slow: LayerAddress,
    module: usize,
    fast_channel: usize,
) -> Option<(usize, f64)> {
    let moving = take_copy(layers, fast, module, fast_channel)?;
    let layer = slow.of(layers)?;
    if module >= layer.factors().len() {
        return None;
    }
    let used = still_channels(layer, module);
    if used.is_empty() || moving.state.is_pinned {
        return None;
    }
    let mut old: Vec<Channel> = used.iter().map(|channel| layer.copy_channel(module, *channel)).collect();
    if (old[0].a.len(), old[0].b.len()) != (moving.a.len(), moving.b.len()) {
        return None;
    }
    let slots = by_activity(&used, &old);
    old.push(moving.clone());
    let svd = decompose(&old);
    if !svd.frobenius_norm().is_finite() || svd.rank() == 0 {
        return None;
    }
    let kept = svd.rank().min(used.len());
    // Where most of the moving channel went: the largest share of it along a singular pair.
    let share = |i: &usize| {
        let (b, a) = svd.term(*i, 1.0);
        (dot_f32(&b, &moving.b) * dot_f32(&a, &moving.a)).abs() / svd.singular_values[*i]
    };
    let home = (0..kept).max_by(|x, y| share(x).total_cmp(&share(y)))?;
    let credit = arrival_credit(layer);
    let mut new = Vec::with_capacity(old.len());
    for (i, slot) in slots.iter().enumerate() {
        let mut channel = if i < kept { term(&svd, i, &old[*slot]) } else { emptied(&old[*slot]) };
        if i == home {
            channel.state.is_screened = true;
            channel.state.activity = channel.state.activity.max(moving.state.activity);
            channel.state.credit_ticks = credit;
        }
        put_or_reset(layer, module, used[*slot], channel.clone());
        new.push(channel);
    }
    let layer = fast.of(layers)?;
    if svd.rank() > used.len() {
        let rest = term(&svd, used.len(), &moving);
        layer.put_channel(module, fast_channel, rest.clone());
        new.push(rest);
    } else {
        layer.reset_channel(module, fast_channel);
    }
    Some((used[slots[home]], distance(&old, &new)))
}

/// Writes the sum of some channels of a layer with as few as `tolerance` of `norm` allows; the rest begin anew. Returns the
/// part of `norm` that was dropped and the change of the sum; `None`, and nothing is touched, where no channel could be saved.
pub(super) fn fold(
    layers: &mut dyn LayerAccess,
    address: LayerAddress,
    module: usize,
    channels: &[usize],
    tolerance: f64,
    norm: f64,
) -> Option<(f64, f64)> {
    let layer = address.of(layers)?;
    let old: Vec<Channel> = channels.iter().map(|channel| layer.copy_channel(module, *channel)).collect();
    let svd = decompose(&old);
    if !svd.frobenius_norm().is_finite() {
        return None;
    }
    let lost = |keep: usize| svd.truncation_error(keep).frobenius;
    let keep = (0..svd.rank()).find(|keep| lost(*keep) < tolerance * norm).unwrap_or(svd.rank());
    if keep >= channels.len() {
        return None;
    }
    let mut new = Vec::new();
    for (i, slot) in by_activity(channels, &old).into_iter().enumerate() {
        let channel = if i < keep { term(&svd, i, &old[slot]) } else { emptied(&old[slot]) };
        put_or_reset(layer, module, channels[slot], channel.clone());
        new.push(channel);
    }
    let truncation = if norm > 0.0 { lost(keep) / norm } else { 0.0 };
    Some((truncation, distance(&old, &new)))
}

/// `|dW|_F` of one module of one layer; 0 where it is not there.
pub(super) fn module_norm(layers: &mut dyn LayerAccess, address: LayerAddress, module: usize) -> f64 {
    let Some(factors) = address.of(layers).and_then(|layer| layer.factors().get(module).cloned()) else { return 0.0 };
    let b: Vec<&[f32]> = (0..factors.rank).map(|channel| factors.b_row(channel)).collect();
    let a: Vec<&[f32]> = (0..factors.rank).map(|channel| factors.a_row(channel)).collect();
    inner_product(&b, &a, &b, &a).max(0.0).sqrt()
}

/// `sqrt(sum_j |b_j|^2 |a_j|^2)` over all channels of a layer: its `|dW|_F` if channels were orthogonal, in one pass.
pub(super) fn channel_norm(layer: &dyn LoraLayer) -> f64 {
    let size = |row: &[f32]| dot_f32(row, row);
    let module = |f: &std::sync::Arc<crate::ModuleFactors>| -> f64 {
        (0..f.rank).map(|channel| size(f.b_row(channel)) * size(f.a_row(channel))).sum()
    };
    layer.factors().iter().map(module).sum::<f64>().sqrt()
}

/// The first channel with `b = 0` that is not moving.
pub(super) fn free_channel(layer: &dyn LoraLayer, module: usize) -> Option<usize> {
    let factors = layer.factors().get(module)?;
    (0..factors.rank).find(|channel| factors.is_free(*channel) && !layer.channel(module, *channel).is_pinned)
}

/// Channels in use that are not moving.
fn still_channels(layer: &dyn LoraLayer, module: usize) -> Vec<usize> {
    let Some(factors) = layer.factors().get(module) else { return Vec::new() };
    let still = |channel: &usize| !factors.is_free(*channel) && !layer.channel(module, *channel).is_pinned;
    (0..factors.rank).filter(still).collect()
}

fn decompose(channels: &[Channel]) -> LowRankSvd {
    let b: Vec<&[f32]> = channels.iter().map(|channel| &channel.b[..]).collect();
    let a: Vec<&[f32]> = channels.iter().map(|channel| &channel.a[..]).collect();
    low_rank_svd(&b, &a)
}

/// Positions of `channels`, the most active first: it gets the largest singular value.
fn by_activity(channels: &[usize], values: &[Channel]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..channels.len()).collect();
    order.sort_by(|x, y| values[*y].state.activity.total_cmp(&values[*x].state.activity));
    order
}

/// Term `i` in the place of `slot`: its phase and activity stay, its moments belonged to a basis that is gone.
fn term(svd: &LowRankSvd, i: usize, slot: &Channel) -> Channel {
    let (b, a) = svd.term(i, svd.singular_values[i].sqrt().max(GAUGE));
    Channel { a, b, moments: vec![0.0; slot.moments.len()], state: slot.state }
}

fn emptied(slot: &Channel) -> Channel {
    Channel { b: vec![0.0; slot.b.len()], ..slot.clone() }
}

fn put_or_reset(layer: &mut dyn LoraLayer, module: usize, channel: usize, value: Channel) {
    if value.b.iter().all(|b| *b == 0.0) {
        layer.reset_channel(module, channel);
    } else {
        layer.put_channel(module, channel, value);
    }
}

/// `|sum_old b a^T - sum_new b a^T|_F`, down to about 1e-8 of the norm of either.
fn distance(old: &[Channel], new: &[Channel]) -> f64 {
    let rows = |channels: &[Channel]| -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        channels.iter().map(|channel| (channel.b.clone(), channel.a.clone())).unzip()
    };
    let (mut b, mut a) = rows(old);
    let (minus_b, minus_a) = rows(new);
    b.extend(minus_b.into_iter().map(|row| row.into_iter().map(|x| -x).collect()));
    a.extend(minus_a);
    let b: Vec<&[f32]> = b.iter().map(Vec::as_slice).collect();
    let a: Vec<&[f32]> = a.iter().map(Vec::as_slice).collect();
    inner_product(&b, &a, &b, &a).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::plain_layers::{PlainLayers, relative_gap};
    use crate::{AgentId, Level};

    const FAST: LayerAddress = LayerAddress { level: Level::Context, agent: AgentId(0) };
    const SLOW: LayerAddress = LayerAddress { level: Level::Agent, agent: AgentId(0) };

    fn layers(slow: usize, fast: usize) -> PlainLayers {
        let mut layers = PlainLayers::new(17, &[(20, 13), (7, 30)], [1, 1, 1, 6, 4], 1);
        layers.fill(Level::Agent, slow);
        layers.fill(Level::Context, fast);
        layers
    }

    #[test]
    fn a_full_layer_pushes_its_least_part_back() {
        let mut layers = layers(6, 3);
        let before = layers.total(AgentId(0));
        let old: Vec<Channel> = (0..6).map(|channel| layers.get(SLOW).copy_channel(1, channel)).collect();
        let svd = decompose(&old);
        let room = make_room(&mut layers, SLOW, &[FAST], 1, 0.0).unwrap();
        assert_eq!((room.kind, room.truncation), (RoomKind::Compressed, 0.0));
        assert!(layers.get(SLOW).factors()[1].is_free(room.channel));
        assert!(relative_gap(&layers.total(AgentId(0)), &before) < 1e-6);
        // What was pushed back is the smallest singular value, and the slow layer's norm lost no more than that.
        let pushed = layers.get(FAST).copy_channel(1, 3);
        let size = (dot_f32(&pushed.b, &pushed.b) * dot_f32(&pushed.a, &pushed.a)).sqrt();
        assert!((size / svd.singular_values[5] - 1.0).abs() < 1e-6);
        let left = svd.singular_values[..5].iter().map(|s| s * s).sum::<f64>().sqrt();
        assert!((module_norm(&mut layers, SLOW, 1) / left - 1.0).abs() < 1e-6);
        // No row of A is shorter than the gauge, nor than its column of B.
        for channel in (0..6).filter(|channel| *channel != room.channel) {
            let Channel { a, b, .. } = layers.get(SLOW).copy_channel(1, channel);
            let (a, b) = (dot_f32(&a, &a).sqrt(), dot_f32(&b, &b).sqrt());
            assert!(a > GAUGE - 1e-6 && (a < GAUGE + 1e-6 || (a - b).abs() < 1e-6 * a), "{a} {b}");
        }
        assert!(room.jump < 1e-6 * left, "{}", room.jump);
    }

    #[test]
    fn with_both_layers_full_it_refuses_or_drops_what_is_negligible() {
        let mut layers = layers(6, 4);
        let before = layers.clone();
        assert_eq!(make_room(&mut layers, SLOW, &[FAST], 0, 1e-3), None);
        assert_eq!(layers, before);
        // One channel a thousandth of the rest.
        let mut small = layers.get(SLOW).copy_channel(0, 4);
        small.b.iter_mut().for_each(|b| *b *= 1e-4);
        layers.get(SLOW).put_channel(0, 4, small);
        let before = layers.total(AgentId(0));
        let room = make_room(&mut layers, SLOW, &[FAST], 0, 1e-3).unwrap();
        assert_eq!(room.kind, RoomKind::Truncated);
        let gap: f64 = layers.total(AgentId(0)).iter().zip(&before).map(|(x, y)| (x - y).powi(2)).sum();
        // The reported jump is the measured one, and the reported share is of the two layers' module.
        assert!((gap.sqrt() / room.jump - 1.0).abs() < 1e-2, "{} {}", gap.sqrt(), room.jump);
        assert!(room.truncation > 1e-6 && room.truncation < 1e-3, "{}", room.truncation);
    }

    #[test]
    fn an_exchange_needs_no_free_channel() {
        let mut layers = layers(6, 4);
        let before = layers.total(AgentId(0));
        let moving = layers.get(FAST).copy_channel(0, 2);
        let norm = module_norm(&mut layers, FAST, 0);
        let (home, jump) = exchange(&mut layers, FAST, SLOW, 0, 2).unwrap();
        assert!(relative_gap(&layers.total(AgentId(0)), &before) < 1e-6);
        assert!(jump < 1e-5);
        let state = layers.get(SLOW).channel(0, home);
        assert!(state.is_screened && state.credit_ticks > 0 && state.activity >= moving.state.activity);
        // What came back is less than what went.
        assert!(module_norm(&mut layers, FAST, 0) < norm);
        let came = layers.get(FAST).copy_channel(0, 2);
        let size = |c: &Channel| dot_f32(&c.b, &c.b) * dot_f32(&c.a, &c.a);
        assert!(size(&came) < size(&moving));
    }

    #[test]
    fn channels_that_move_take_no_part() {
        let mut layers = layers(6, 2);
        for channel in 0..5 {
            layers.get(SLOW).pin_channel(0, channel, true);
        }
        let pinned: Vec<Channel> = (0..5).map(|channel| layers.get(SLOW).copy_channel(0, channel)).collect();
        assert_eq!(make_room(&mut layers, SLOW, &[FAST], 0, 1.0), None, "one channel is not compressed");
        exchange(&mut layers, FAST, SLOW, 0, 0).unwrap();
        for (channel, before) in pinned.iter().enumerate() {
            assert_eq!(layers.get(SLOW).copy_channel(0, channel), *before);
        }
    }

    #[test]
    fn folding_frees_what_cancels() {
        let mut layers = layers(3, 0);
        let mut opposite = layers.get(SLOW).copy_channel(0, 0);
        opposite.b.iter_mut().for_each(|b| *b = -*b);
        layers.get(SLOW).put_channel(0, 1, opposite);
        let before = layers.total(AgentId(0));
        let norm = module_norm(&mut layers, SLOW, 0);
        let (truncation, _) = fold(&mut layers, SLOW, 0, &[0, 1], 1e-5, norm).unwrap();
        assert_eq!(truncation, 0.0);
        assert!(layers.get(SLOW).factors()[0].is_free(0) && layers.get(SLOW).factors()[0].is_free(1));
        assert!(relative_gap(&layers.total(AgentId(0)), &before) < 1e-6);
        assert_eq!(fold(&mut layers, SLOW, 1, &[0, 2], 1e-5, norm), None, "two independent channels stay two");
    }
}
