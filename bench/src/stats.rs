//! Medians, and ratios taken round by round.

/// The median, or `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The median of the ratios of `values` to `base`, each within its own round.
///
/// A slowdown of the machine affects both sides of a round's ratio.
pub(crate) fn median_ratio(values: &[f64], base: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = values
        .iter()
        .zip(base)
        .map(|(value, base)| value / base)
        .filter(|r| r.is_finite())
        .collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // Round two ran at half speed for both; the ratio does not see it.
        assert_eq!(median_ratio(&[50.0, 25.0], &[100.0, 50.0]), Some(0.5));
    }
}
