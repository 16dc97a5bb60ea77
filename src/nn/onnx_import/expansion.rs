//! `Expand`, `Equal`, `Mod` and `Where` of constants. Exporters use them to compute sizes, and to repeat a class token
//! for each sample.

use std::rc::Rc;

use super::shapes::BATCH;
use super::tensor::{Constant, Values};

/// Largest number of values of a result (65,536: tokens, and lists of sizes).
const MAX_VALUES: usize = 1 << 16;

/// The result of one of these operators. `None` if it cannot be computed.
pub(super) fn computed(op: &str, inputs: &[Rc<Constant>]) -> Option<Constant> {
    match (op, inputs) {
        ("Expand", [value, sizes]) => expanded(value, sizes.ints()?),
        ("Equal", [a, b]) => {
            let (a, b) = (a.ints()?, b.ints()?);
            let count = a.len().max(b.len());
            let values =
                (0..count).map(|at| Some(i64::from(element(a, at, count)? == element(b, at, count)?)));
            Some(Constant::from_ints(values.collect::<Option<_>>()?))
        }
        ("Mod", [a, b]) => {
            let (a, b) = (a.ints()?, b.ints()?);
            let count = a.len().max(b.len());
            let values = (0..count).map(|at| {
                let (a, b) = (element(a, at, count)?, element(b, at, count)?);
                // Of non-negative numbers only: for others, the sign of the result depends on an attribute.
                (a >= 0 && b > 0).then(|| a % b)
            });
            Some(Constant::from_ints(values.collect::<Option<_>>()?))
        }
        ("Where", [condition, yes, no]) => {
            let (condition, yes, no) = (condition.ints()?, yes.ints()?, no.ints()?);
            let count = condition.len().max(yes.len()).max(no.len());
            let chosen = (0..count).map(|at| {
                let part = if element(condition, at, count)? != 0 { yes } else { no };
                element(part, at, count)
            });
            Some(Constant::from_ints(chosen.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// An element of a list of integers; a list of one repeats it.
fn element(list: &[i64], at: usize, count: usize) -> Option<i64> {
    match list.len() {
        1 => Some(list[0]),
        length if length == count => Some(list[at]),
        _ => None,
    }
}

/// A constant with some of its sizes of 1 repeated. The batch, whose size is not known, keeps the size 1: such a value is
/// the same for each sample.
fn expanded(value: &Constant, sizes: &[i64]) -> Option<Constant> {
    let rank = value.dims.len().max(sizes.len());
    let own: Vec<usize> =
        std::iter::repeat_n(1, rank - value.dims.len()).chain(value.dims.iter().copied()).collect();
    let wanted = std::iter::repeat_n(&1, rank - sizes.len()).chain(sizes);
    let mut dims = Vec::new();
    for (axis, (&own, &wanted)) in own.iter().zip(wanted).enumerate() {
        dims.push(match (own, wanted) {
            (1, BATCH) if axis == 0 => 1,
            (own, 1) => own,
            (1, wanted) => usize::try_from(wanted).ok()?,
            (own, wanted) if usize::try_from(wanted) == Ok(own) => own,
            _ => return None,
        });
    }
    let count = dims.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    let count = count.filter(|count| *count <= MAX_VALUES)?;
    let source = |mut index: usize| {
        let (mut at, mut stride) = (0, 1);
        for (size, own) in dims.iter().zip(&own).rev() {
            at += if *own == 1 { 0 } else { index % size * stride };
            (index, stride) = (index / size, stride * own);
        }
        at
    };
    let values = match &value.values {
        Values::Floats(values) => Values::Floats((0..count).map(|index| values[source(index)]).collect()),
        Values::Ints(values) => Values::Ints((0..count).map(|index| values[source(index)]).collect()),
    };
    Some(Constant { dims, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(values: &[i64]) -> Rc<Constant> {
        Rc::new(Constant::from_ints(values.to_vec()))
    }

    #[test]
    fn a_token_is_repeated_for_a_batch_of_any_size() {
        // PyTorch's form of `token.expand(n, -1, -1)`.
        let sizes = ints(&[BATCH, -1, -1]);
        let is_open = Rc::new(computed("Equal", &[sizes.clone(), ints(&[-1])]).unwrap());
        assert_eq!(is_open.ints().unwrap(), [0, 1, 1]);
        let sizes = Rc::new(computed("Where", &[is_open, ints(&[1, 1, 1]), sizes]).unwrap());
        let token = Rc::new(Constant::from_floats(vec![1, 1, 3], vec![1.0, 2.0, 3.0]));
        assert_eq!(computed("Expand", &[token.clone(), sizes]).unwrap(), *token);
        let found = computed("Expand", &[token, ints(&[2, 2, 3])]).unwrap();
        assert_eq!(found.floats(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        let columns = Rc::new(Constant::from_floats(vec![2, 1], vec![1.0, 2.0]));
        assert_eq!(
            computed("Expand", &[columns.clone(), ints(&[2])]).unwrap().floats(),
            [1.0, 1.0, 2.0, 2.0]
        );
        for sizes in [[1 << 40, 1], [3, 1], [-1, 1], [1, BATCH]] {
            assert_eq!(computed("Expand", &[columns.clone(), ints(&sizes)]), None, "{sizes:?}");
        }
        assert_eq!(computed("Equal", &[ints(&[1, 2]), ints(&[1, 2, 3])]), None);
        assert_eq!(computed("Mod", &[ints(&[2, 7]), ints(&[3])]).unwrap().ints().unwrap(), [2, 1]);
        for divided in [[BATCH], [-1]] {
            assert_eq!(computed("Mod", &[ints(&divided), ints(&[3])]), None);
        }
        assert_eq!(computed("Mod", &[ints(&[1]), ints(&[0])]), None);
    }
}
