//! Random splits that keep the proportions of the classes.

use crate::{Error, Result, random};

/// Returns the sample indices of both parts, in random order within each class.
pub(super) fn stratified(labels: &[u32], classes: usize, share: f64) -> Result<(Vec<usize>, Vec<usize>)> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut stream = random::stream();
    for class in 0..classes as u32 {
        let members: Vec<usize> = (0..labels.len()).filter(|i| labels[*i] == class).collect();
        let order = random::permutation(&mut stream, members.len());
        let held = (members.len() as f64 * share).round().max(0.0) as usize;
        second.extend(order.iter().take(held).map(|at| members[*at]));
        first.extend(order.iter().skip(held).map(|at| members[*at]));
    }
    if !(0.0..1.0).contains(&share) || first.is_empty() || second.is_empty() {
        let expected =
            format!("a share between 0 and 1 that leaves both parts some of {} pictures", labels.len());
        return Err(Error::Argument { name: "validation", expected, found: share.to_string() });
    }
    Ok((first, second))
}
