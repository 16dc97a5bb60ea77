//! Calibration, thresholds, nearest neighbours and near-duplicates match scikit-learn and SciPy.
//! `tests/fixtures/evaluation.py` wrote the expected values.

use std::path::PathBuf;

use headstart::prelude::*;
use headstart::train::Predictions;

use crate::parity::draw;

const SAMPLES: usize = 400;

fn fixture(name: &str) -> Vec<Vec<f64>> {
    let all = candle_core::safetensors::load_buffer(
        include_bytes!("../fixtures/evaluation.safetensors"),
        &device(),
    );
    let found = all.unwrap().remove(name).unwrap();
    let rows = found.dims()[0];
    found.reshape((rows, ())).unwrap().to_vec2::<f64>().unwrap()
}

fn assert_near(
    found: impl IntoIterator<Item = f64>,
    expected: impl IntoIterator<Item = f64>,
    tolerance: f64,
) {
    let (found, expected): (Vec<f64>, Vec<f64>) =
        (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{worst}: {found:?}, not {expected:?}");
}

/// Predictions with these outputs.
fn predicted(values: Vec<f32>, columns: usize) -> headstart::Result<Predictions> {
    let x = Tensor::from_vec(values.clone(), (values.len() / columns, columns), &device())?;
    sequential![Input::new(columns), Activation::Linear]?.predict(&x)
}

/// Logits of the fixture, and the true classes.
fn logits(classes: usize) -> headstart::Result<(Predictions, Tensor)> {
    let noise = draw(8100 + classes as u64, &[SAMPLES, classes]);
    let draws = draw(8200 + classes as u64, &[SAMPLES]);
    let truth: Vec<u32> = draws.iter().map(|value| (value * classes.max(2) as f32) as u32).collect();
    let logit = |at: usize| {
        let (noise, truth) = (f64::from(noise[at]), truth[at / classes]);
        match classes {
            1 => 8.0 * noise - 4.0 + 2.5 * (2.0 * f64::from(truth) - 1.0),
            _ => 8.0 * noise + if at % classes == truth as usize { 4.0 } else { 0.0 },
        }
    };
    let values = (0..SAMPLES * classes).map(|at| logit(at) as f32).collect();
    let truth = Tensor::from_vec(truth, SAMPLES, &device())?;
    Ok((predicted(values, classes)?.from_logits(true), truth))
}

#[test]
fn calibration_and_losses_match_scikit_learn_and_scipy() -> headstart::Result<()> {
    for (name, classes) in [("three", 3), ("two", 1)] {
        let (predictions, truth) = logits(classes)?;
        let calibration = Calibration::new(&truth, &predictions, 15)?;
        assert_near([calibration.error()], fixture(&format!("{name}_error"))[0].clone(), 1e-6);
        let bins =
            calibration.bins().iter().flat_map(|(mean, accuracy, count)| [*mean, *accuracy, *count as f64]);
        assert_near(bins, fixture(&format!("{name}_bins")).concat(), 1e-6);
        let losses = predictions.losses(&truth)?;
        assert_near(losses, fixture(&format!("{name}_losses")).concat(), 1e-6);
        let temperature = predictions.fit_temperature(&truth)?;
        let expected = fixture(&format!("{name}_temperature"))[0][0];
        assert!((temperature / expected - 1.0).abs() < 1e-5, "{name}: {temperature}, not {expected}");
        // Probabilities have the same best temperature as their logits.
        let values = predictions.with_temperature(1.0)?.to_tensor()?.flatten_all()?.to_vec1::<f32>()?;
        let again = predicted(values, classes)?.fit_temperature(&truth)?;
        assert!((again / expected - 1.0).abs() < 1e-3, "{name}: {again}, not {expected}");
        let cooler = predictions.with_temperature(temperature)?;
        assert_eq!(cooler.classes(), predictions.classes());
        let mean = |losses: Vec<f64>| losses.iter().sum::<f64>() / SAMPLES as f64;
        assert!(mean(cooler.losses(&truth)?) < mean(predictions.losses(&truth)?));
        assert!(calibration.plot()?.text().contains("expected calibration error"));
    }
    Ok(())
}

#[test]
fn thresholds_match_scikit_learn() -> headstart::Result<()> {
    let truth: Vec<u32> = draw(8300, &[SAMPLES]).iter().map(|value| u32::from(*value > 0.7)).collect();
    let noise = draw(8301, &[SAMPLES]);
    let score = |at: usize| (noise[at] * 60.0 + 40.0 * truth[at] as f32).floor() / 100.0;
    let scores: Vec<f32> = (0..SAMPLES).map(score).collect();
    let y = Tensor::new(truth.as_slice(), &device())?;
    // One output for class 1, and one output for each of two classes.
    let both = scores.iter().flat_map(|score| [1.0 - score, *score]).collect();
    for predictions in [predicted(scores.clone(), 1)?, predicted(both, 2)?] {
        let curve = PrecisionRecall::new(&y, &predictions)?;
        let points = curve.thresholds().into_iter().zip(curve.precision()).zip(curve.recall());
        assert_near(points.flat_map(|((a, b), c)| [a, b, c]), fixture("curve").concat(), 1e-6);
        assert_near([curve.average_precision()], fixture("average_precision").concat(), 1e-9);
    }
    let predictions = predicted(scores, 1)?;
    let curve = PrecisionRecall::new(&y, &predictions)?;
    let costs = [(1.0, 1.0), (1.0, 10.0), (5.0, 1.0), (1000.0, 1.0)];
    for ((alarm, missed), expected) in costs.into_iter().zip(fixture("costs").concat()) {
        let chosen = predictions.clone().with_threshold(curve.cheapest_threshold(alarm, missed)?)?;
        let cost = chosen.classes().into_iter().zip(&truth).map(|(class, truth)| match (class, truth) {
            (1, 0) => alarm,
            (0, 1) => missed,
            _ => 0.0,
        });
        assert_near([cost.sum::<f64>()], [expected], 1e-9);
    }
    Ok(())
}

#[test]
fn neighbors_match_scikit_learn() -> headstart::Result<()> {
    let (known, queries) = (draw(8400, &[90, 12]), draw(8401, &[30, 12]));
    let known = Tensor::from_vec(known, (90, 12), &device())?;
    // Features of any rank count as one row per sample.
    let queries = Tensor::from_vec(queries, (30, 3, 2, 2), &device())?;
    let classes: Vec<u32> = draw(8402, &[90]).iter().map(|value| (value * 3.0) as u32).collect();
    let classes = Tensor::from_vec(classes, 90, &device())?;
    for neighbors in [1, 5, 90] {
        let model = KNeighborsClassifier::new(&known, &classes, neighbors)?;
        let votes =
            model.predict(&queries)?.to_tensor()?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        assert_near(votes, fixture(&format!("votes_{neighbors}")).concat(), 1e-5);
    }
    Ok(())
}

fn images(count: usize) -> headstart::Result<Images> {
    Ok(Images {
        x: random_uniform((count, 3, 8, 8), 0.0, 255.0)?,
        y: Tensor::zeros(count, DType::U32, &device())?,
        class_names: vec!["cats".into(), "dogs".into()],
        paths: (0..count).map(|at| PathBuf::from(format!("{at}.png"))).collect(),
    })
}

#[test]
fn near_duplicates_match_scikit_learn() -> headstart::Result<()> {
    let known = Tensor::from_vec(draw(8400, &[90, 12]), (90, 12), &device())?;
    let found = images(90)?.near_duplicates(&known, 0.6)?;
    let mut pairs = found.pairs().to_vec();
    assert!(pairs.windows(2).all(|two| two[0].2 >= two[1].2), "not in descending order");
    pairs.sort_by_key(|pair| (pair.0, pair.1));
    let pairs = pairs.into_iter().flat_map(|(a, b, similarity)| [a as f64, b as f64, similarity]);
    assert_near(pairs, fixture("pairs").concat(), 1e-9);
    assert_eq!(found.bundle()[1].1.matches("<image").count(), found.pairs().len().min(10));
    // Copies are found at a similarity of 1.
    let copies = Tensor::cat(&[&known, &known.i(3..4)?], 0)?;
    let found = images(91)?.near_duplicates(&copies, 1.0)?;
    assert_eq!(found.pairs().iter().map(|pair| (pair.0, pair.1)).collect::<Vec<_>>(), [(3, 90)]);
    Ok(())
}

#[test]
fn copies_are_found_among_few_images() -> headstart::Result<()> {
    let same = Tensor::new(&[[1f32, 2.0, 0.5]; 3], &device())?;
    let pairs = images(3)?.near_duplicates(&same, 0.95)?.pairs().to_vec();
    assert_eq!(pairs, [(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)]);
    let two = Tensor::new(&[[1f32, 2.0, 0.5], [1.0, 2.0, 0.501]], &device())?;
    assert_eq!(images(2)?.near_duplicates(&two, 0.95)?.pairs().len(), 1);
    let others = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &device())?;
    assert_eq!(images(2)?.near_duplicates(&others, 0.95)?.pairs().len(), 0);
    Ok(())
}

#[test]
fn images_with_the_largest_losses_come_first() -> headstart::Result<()> {
    let images = images(3)?;
    let text = images.top_losses(&predicted(vec![0.2, 0.9, 0.6], 1)?, 2)?.bundle()[0].1.clone();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["0: 1: labelled cats, predicted dogs, loss 2.30", "1: 2: labelled cats, predicted dogs, loss 0.92"]
    );
    Ok(())
}

#[test]
fn invalid_evaluations_are_refused() -> headstart::Result<()> {
    let truth = |classes: &[u32]| Tensor::new(classes, &device()).unwrap();
    let two = predicted(vec![0.3, 0.8], 1)?;
    let refused = |result: headstart::Result<f64>| result.unwrap_err().to_string();
    assert!(
        refused(Calibration::new(&truth(&[0]), &two, 10).map(|c| c.error())).contains("one for each sample")
    );
    assert!(refused(Calibration::new(&truth(&[0, 2]), &two, 10).map(|c| c.error())).contains("from 0 to 1"));
    assert!(refused(Calibration::new(&truth(&[0, 1]), &two, 0).map(|c| c.error())).contains("bins"));
    let logits = predicted(vec![3.0, -4.0], 1)?;
    assert!(
        refused(Calibration::new(&truth(&[0, 1]), &logits, 10).map(|c| c.error())).contains("from_logits")
    );
    for refusal in [
        logits.losses(&truth(&[0, 1])).map(|losses| losses[0]),
        logits.fit_temperature(&truth(&[0, 1])),
        logits.with_temperature(2.0).map(|_| 0.0),
    ] {
        assert!(refused(refusal).contains("from_logits"));
    }
    assert!(logits.clone().from_logits(true).losses(&truth(&[0, 1]))?.iter().all(|loss| *loss > 3.0));
    let broken = predicted(vec![f32::NAN, 0.5], 1)?;
    assert!(refused(Calibration::new(&truth(&[0, 1]), &broken, 10).map(|c| c.error())).contains("finite"));
    // All right, and no better than chance.
    for scores in [[0.1, 0.9], [0.9, 0.1]] {
        assert!(
            refused(predicted(scores.to_vec(), 1)?.fit_temperature(&truth(&[0, 1]))).contains("of 2 right")
        );
    }
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(two.with_temperature(temperature).unwrap_err().to_string().contains("temperature"));
    }
    assert!(
        predicted(vec![0.3, 0.7], 2)?.with_threshold(0.5).unwrap_err().to_string().contains("one output")
    );
    assert!(two.clone().with_threshold(f64::NAN).is_err());
    assert_eq!(two.clone().with_threshold(0.2)?.classes(), [1, 1]);
    assert_eq!(two.clone().with_threshold(0.2)?.confidences(), [0.3, 0.8]);
    assert!(
        refused(PrecisionRecall::new(&truth(&[0, 0]), &two).map(|c| c.average_precision()))
            .contains("class 1")
    );
    let three = predicted(vec![0.2, 0.3, 0.5], 3)?;
    assert!(
        refused(PrecisionRecall::new(&truth(&[1]), &three).map(|c| c.average_precision()))
            .contains("two classes")
    );
    let curve = PrecisionRecall::new(&truth(&[0, 1]), &two)?;
    assert!(refused(curve.cheapest_threshold(0.0, 1.0)).contains("cost"));
    let features = random_uniform((4, 2), 0.0, 1.0)?;
    let neighbors = |classes: &[u32], count| KNeighborsClassifier::new(&features, &truth(classes), count);
    assert!(neighbors(&[0, 1, 0], 1).unwrap_err().to_string().contains("one per sample"));
    for count in [0, 5] {
        assert!(neighbors(&[0, 1, 0, 1], count).unwrap_err().to_string().contains("from 1 to 4"));
    }
    let other = random_uniform((1, 3), 0.0, 1.0)?;
    assert!(neighbors(&[0, 1, 0, 1], 2)?.predict(&other).unwrap_err().to_string().contains("[N, 2]"));
    assert!(neighbors(&[0, 1, 0, 1], 2)?.predict(&(&features.i(..1)? / 0.0)?).is_err());
    for similarity in [0.0, 1.1, f64::NAN] {
        assert!(images(4)?.near_duplicates(&features, similarity).is_err());
    }
    assert!(images(3)?.near_duplicates(&features, 0.9).unwrap_err().to_string().contains("one per image"));
    assert!(images(3)?.select(&[3]).unwrap_err().to_string().contains("below 3"));
    Ok(())
}

/// As in Keras, in both orders.
#[test]
fn validation_data_override_a_validation_split() -> headstart::Result<()> {
    let (x, y) = (random_uniform((10, 2), 0.0, 1.0)?, random_uniform(10, 0.0, 1.0)?);
    let (other, of_other) = (random_uniform((4, 2), 5.0, 9.0)?, random_uniform(4, 5.0, 9.0)?);
    let data = || (&other, &of_other);
    let fit = || Fit::epochs(1).verbose(false).chart(false).advice(false);
    for fit in [
        fit().validation_data(data()).validation_split(0.5),
        fit().validation_split(0.5).validation_data(data()),
    ] {
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(0.01), MeanSquaredError, []);
        let history = model.fit((&x, &y), fit)?;
        let expected = model.evaluate(&other, &of_other)?["loss"];
        assert!((history["val_loss"][0] / expected - 1.0).abs() < 1e-5);
    }
    // Its error is not lost either.
    let wrong = fit().validation_data((&other, &y)).validation_split(0.5);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(0.01), MeanSquaredError, []);
    assert!(model.fit((&x, &y), wrong).is_err());
    Ok(())
}

/// `keras.metrics.BinaryAccuracy` gives 5/6.
#[test]
fn binary_accuracy_counts_each_output() -> headstart::Result<()> {
    let x = Tensor::new(&[[0.9f32, 0.2, 0.6], [0.4, 0.4, 0.4]], &device())?;
    let y = Tensor::new(&[[1f32, 0.0, 1.0], [0.0, 0.0, 1.0]], &device())?;
    let mut model = sequential![Input::new(3), Linear]?;
    model.compile(SGD::new(0.1), BinaryCrossentropy, [BinaryAccuracy, Accuracy]);
    let scores = model.evaluate(&x, &y)?;
    assert!((scores["binary_accuracy"] - 5.0 / 6.0).abs() < 1e-9 && scores["accuracy"] == 0.5, "{scores}");
    // Logits become probabilities first.
    model.compile(SGD::new(0.1), BinaryCrossentropy.from_logits(true), [BinaryAccuracy]);
    assert!((model.evaluate(&(x - 0.5)?, &y)?["binary_accuracy"] - 5.0 / 6.0).abs() < 1e-9);
    Ok(())
}
