//! Orders nodes so that what one needs comes before it, or finds the rings that forbid it.
//!
//! Nodes are numbers; of free ones the smaller comes first. Unaware of what they stand for.

use std::{cmp::Reverse, collections::BinaryHeap};

/// All nodes in order, `needs[n]` being what node n needs (each may be named more than once).
///
/// The error holds rings: each node needs the next, the last needs the first. Every ring has a node that no
/// ring before it has.
pub(super) fn sorted(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut missing: Vec<usize> = vec![0; needs.len()];
    for (node, needs) in needs.iter().enumerate() {
        for &need in needs {
            needed_by[need].push(node);
            missing[node] += 1;
        }
    }
    let mut free: BinaryHeap<Reverse<usize>> =
        (0..needs.len()).filter(|&node| missing[node] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(Reverse(node)) = free.pop() {
        order.push(node);
        for &user in &needed_by[node] {
            missing[user] -= 1;
            if missing[user] == 0 {
                free.push(Reverse(user));
            }
        }
    }
    if order.len() == needs.len() { Ok(order) } else { Err(rings(needs)) }
}

/// Walks depth first; an edge back into the walk closes a ring.
fn rings(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        /// In the walk, at this depth.
        Walked(usize),
        Done,
    }
    let mut state = vec![State::New; needs.len()];
    let mut in_ring = vec![false; needs.len()];
    let mut rings = Vec::new();
    for start in 0..needs.len() {
        if state[start] != State::New {
            continue;
        }
        state[start] = State::Walked(0);
        let mut walk: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((node, edge)) = walk.last_mut() {
            let Some(&next) = needs[*node].get(*edge) else {
                state[*node] = State::Done;
                walk.pop();
                continue;
            };
            *edge += 1;
            match state[next] {
                State::New => {
                    state[next] = State::Walked(walk.len());
                    walk.push((next, 0));
                }
                State::Walked(depth) => {
                    let mut ring: Vec<usize> =
                        walk[depth..].iter().map(|&(node, _)| node).collect();
                    if ring.iter().any(|&node| !in_ring[node]) {
                        for &node in &ring {
                            in_ring[node] = true;
                        }
                        let first = ring
                            .iter()
                            .enumerate()
                            .min_by_key(|&(_, node)| node)
                            .map_or(0, |(position, _)| position);
                        ring.rotate_left(first);
                        rings.push(ring);
                    }
                }
                State::Done => {}
            }
        }
    }
    rings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_ties_go_by_number() {
        assert_eq!(sorted(&[vec![2], vec![], vec![1], vec![]]), Ok(vec![1, 2, 0, 3]));
        assert_eq!(sorted(&[]), Ok(vec![]));
    }

    #[test]
    fn each_ring_is_found_once_from_its_smallest_node() {
        assert_eq!(sorted(&[vec![0]]), Err(vec![vec![0]]));
        assert_eq!(
            sorted(&[vec![1], vec![2], vec![1, 1], vec![4], vec![3]]),
            Err(vec![vec![1, 2], vec![3, 4]])
        );
        assert_eq!(sorted(&[vec![1, 2], vec![0], vec![0]]), Err(vec![vec![0, 1], vec![0, 2]]));
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let mut chain: Vec<Vec<usize>> = (0..100_000).map(|node| vec![node + 1]).collect();
        chain.push(vec![0]);
        assert_eq!(sorted(&chain).unwrap_err()[0].len(), 100_001);
    }

    proptest! {
        #[test]
        fn an_order_or_a_true_ring(
            needs in prop::collection::vec(prop::collection::vec(0usize..8, 0..3), 8)
        ) {
            match sorted(&needs) {
                Ok(order) => {
                    let place = |node| order.iter().position(|&other| other == node).unwrap();
                    for (node, needs) in needs.iter().enumerate() {
                        for &need in needs {
                            prop_assert!(place(need) < place(node));
                        }
                    }
                }
                Err(rings) => {
                    prop_assert!(!rings.is_empty());
                    for ring in rings {
                        for (position, &node) in ring.iter().enumerate() {
                            prop_assert!(needs[node].contains(&ring[(position + 1) % ring.len()]));
                        }
                    }
                }
            }
        }
    }
}
