//! One seed drives everything random. Alone in its process, for the seed is the process's own.

use headstart::prelude::*;

#[test]
fn the_program_trains_on_its_dummy_data_and_repeats_itself() -> headstart::Result<()> {
    let run = || {
        set_random_seed(7);
        let x = Tensor::from_vec(
            (0..4 * 3 * 1024).map(|i| (i * 31 % 255) as f32 / 255.0).collect(),
            (4, 3, 32, 32),
            &device(),
        )?;
        let y = Tensor::new(&[0f32, 1.0, 0.0, 1.0], &device())?;
        let base_model =
            Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32)).build()?;
        base_model.freeze();
        let mut model = sequential![
            base_model,
            Flatten,
            Dense::new(128).activation(Relu),
            Dropout::new(0.5),
            Dense::new(1).activation(Sigmoid)
        ]?;
        model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
        let datagen = ImageDataGenerator::new()
            .rotation_range(20.0)
            .width_shift_range(0.2)
            .height_shift_range(0.2)
            .horizontal_flip(true);
        datagen.fit(&x)?;
        let history = model.fit(datagen.flow(&x, &y, 4)?, Fit::epochs(10).verbose(false))?;
        let pred = model.predict(&x.i(..1)?)?;
        Ok::<_, headstart::Error>((history, pred[0][0]))
    };
    let (history, pred) = run()?;
    assert_eq!(history.epochs(), 10);
    assert!((0.0..=1.0).contains(&pred));
    let chart = history.plot()?;
    assert!(chart.svg().starts_with("<svg") && chart.text().contains("loss"));
    let (again, same) = run()?;
    assert_eq!((&history["loss"], pred), (&again["loss"], same));
    Ok(())
}
