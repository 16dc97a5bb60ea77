//! Generic impls of the operators that the standard library's macros define for each pair of types: 200
//! impls in place of 3,500.
//!
//! A program that compiles has the same types with them. An expression that does not type-check with the
//! standard library may have a type here.

use proc_macro2::TokenStream;

/// Macros that define a shift operator for integers, with any integer as the right operand.
const SHIFTS: [(&str, Operator); 4] = [
    ("shl_impl_all", ("Shl", "shl")),
    ("shr_impl_all", ("Shr", "shr")),
    ("shl_assign_impl_all", ("ShlAssign", "shl_assign")),
    ("shr_assign_impl_all", ("ShrAssign", "shr_assign")),
];
/// Macros that define all operators of a type that wraps an integer.
const LIKE_INTEGERS: [(&str, &str); 2] = [("wrapping_impl", "Wrapping"), ("saturating_impl", "Saturating")];
/// Macro that defines the shifts of the wrapper types.
const WRAPPING_SHIFTS: &str = "sh_impl_all";
const BINARY: [Operator; 8] = [
    ("Add", "add"),
    ("Sub", "sub"),
    ("Mul", "mul"),
    ("Div", "div"),
    ("Rem", "rem"),
    ("BitXor", "bitxor"),
    ("BitOr", "bitor"),
    ("BitAnd", "bitand"),
];
const UNARY: [Operator; 2] = [("Not", "not"), ("Neg", "neg")];

/// Name of a trait and of its method.
type Operator = (&'static str, &'static str);

/// Generic impls that replace a call of one of these macros.
pub fn generic_impls(called: &str, types: TokenStream) -> Option<String> {
    if let Some((_, operator)) = SHIFTS.iter().find(|(name, _)| *name == called) {
        let impls_for = |name: String| match operator.0.ends_with("Assign") {
            true => assignment(*operator, "R", &name, "R"),
            false => [name.clone(), format!("&{name}")]
                .map(|left| binary(*operator, "R", &left, "R", &name))
                .concat(),
        };
        return Some(types.into_iter().map(|name| impls_for(name.to_string())).collect());
    }
    if called == WRAPPING_SHIFTS {
        let shifts = [("Shl", "shl"), ("Shr", "shr")];
        return Some(shifts.map(|operator| with_references(operator, "Wrapping<T>", "usize")).concat());
    }
    let (_, name) = LIKE_INTEGERS.iter().find(|(name, _)| *name == called)?;
    let own = format!("{name}<T>");
    let binary = BINARY.map(|operator| {
        let of_the_number = assignments(operator, &own, "T");
        with_references(operator, &own, &own) + &of_the_number
    });
    // The standard library negates only signed saturating integers.
    let unary =
        UNARY.iter().filter(|(operator, _)| *operator != "Neg" || *name == "Wrapping").map(|operator| {
            [own.clone(), format!("&{own}")].map(|operand| unary(*operator, &operand, &own)).concat()
        });
    Some(binary.concat() + &unary.collect::<String>())
}

/// Impls for values and references, and for assignment.
fn with_references(operator: Operator, own: &str, right: &str) -> String {
    let mut made = assignments(operator, own, right);
    for left in [own, &format!("&{own}")] {
        for right in [right, &format!("&{right}")] {
            made += &binary(operator, "T", left, right, own);
        }
    }
    made
}

fn assignments((name, method): Operator, own: &str, right: &str) -> String {
    let made = |(name, method): (&str, &str), right| assignment((name, method), "T", own, right);
    let (name, method) = (format!("{name}Assign"), format!("{method}_assign"));
    made((&name, &method), right) + &made((&name, &method), &format!("&{right}"))
}

fn binary((name, method): Operator, parameter: &str, left: &str, right: &str, output: &str) -> String {
    format!(
        "impl<{parameter}> {name}<{right}> for {left} {{ type Output = {output}; \
         fn {method}(self, other: {right}) -> {output} {{ loop {{}} }} }}\n"
    )
}

fn assignment((name, method): (&str, &str), parameter: &str, left: &str, right: &str) -> String {
    format!(
        "impl<{parameter}> {name}<{right}> for {left} {{ fn {method}(&mut self, other: {right}) {{ loop {{}} }} }}\n"
    )
}

fn unary((name, method): Operator, operand: &str, output: &str) -> String {
    format!(
        "impl<T> {name} for {operand} {{ type Output = {output}; fn {method}(self) -> {output} {{ loop {{}} }} }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_of_a_call_has_its_operator_and_other_macros_are_ignored() {
        let made = generic_impls("shl_impl_all", "u8 i8".parse().unwrap()).unwrap();
        let expected = "impl<R> Shl<R> for u8 { type Output = u8; fn shl(self, other: R) -> u8 { loop {} } }\n\
            impl<R> Shl<R> for &u8 { type Output = u8; fn shl(self, other: R) -> u8 { loop {} } }\n";
        assert_eq!(made, format!("{expected}{}", expected.replace("u8", "i8")));
        assert_eq!(generic_impls("add_impl", "u8".parse().unwrap()), None);
        let made = generic_impls("wrapping_impl", "u8 i8".parse().unwrap()).unwrap();
        assert!(made.contains(
            "impl<T> AddAssign<&T> for Wrapping<T> { fn add_assign(&mut self, other: &T) { loop {} } }"
        ));
        assert_eq!(syn::parse_file(&made).unwrap().items.len(), 8 * 8 + 4);
    }
}
