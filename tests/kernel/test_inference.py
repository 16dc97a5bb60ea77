"""rust-analyzer infers the type of everything in the prelude, from sources without bodies."""

import re

from conftest import ROOT
from widget_lines import WIDGETS

# Lines `variable: type = expression`. The type must be inferred.
INFERRED = """
seeded: () = set_random_seed(1)
here: Device = device()
gpu_products: Option<GpuPrecision> = gpu_precision()
gpu_products_set: () = set_gpu_precision(GpuPrecision::Float32)?
go_on: () = check_interrupt()?
cells: usize = headstart::cells_run()
x: Tensor = random_uniform((4, 3, 32, 32), 0.0, 255.0)?
y: Tensor = Tensor::new(&[0f32, 1.0, 0.0, 1.0], &device())?
ready: Tensor = preprocess_input(&x)?
conv: Conv2D = Conv2D::new(2, 3).strides(1).padding(Padding::Same).activation(Relu).use_bias(true)
he: Conv2D = Conv2D::new(2, 3).kernel_initializer(Initializer::HeUniform)
own_window: Conv2D = Conv2D::depthwise(3).strides(2)
grouped_conv: Conv2D = Conv2D::new(4, (1, 3)).groups(2).dilation_rate(2)
separable: SeparableConv2D = SeparableConv2D::new(4, 3).strides(2).padding(Padding::Same).activation(Relu).use_bias(false)
layer_norm: LayerNormalization = LayerNormalization::default().axis(1).epsilon(1e-6)
group_norm: GroupNormalization = GroupNormalization::new(2).epsilon(1e-5)
response_norm: GlobalResponseNormalization = GlobalResponseNormalization::default()
attention: MultiHeadAttention = MultiHeadAttention::new(2).key_dim(4).kernel_initializer(Initializer::HeUniform)
layer_scale: LayerScale = LayerScale::new(1e-6)
depth: StochasticDepth = StochasticDepth::new(0.1)
permuted: Permute = Permute::new(&[2, 1])
concatenated_maps: Concatenate = Concatenate::default().axis(-1)
zeros_around: ZeroPadding2D = ZeroPadding2D::new(1)
repeated_pixels: UpSampling2D = UpSampling2D::new(2)
zeros_below: ZeroPadding2D = ZeroPadding2D::sides((0, 1), (0, 1))
of_tokens: (ClassToken, PositionEmbedding, FirstToken, GlobalAveragePooling1D) = (ClassToken, PositionEmbedding, FirstToken, GlobalAveragePooling1D)
affine: Affine = Affine::default().axis(-1).scale(true).center(true)
unbiased: Dense = Dense::new(3).use_bias(false)
of_pixels: Dense = Dense::new(3).channels_last(true)
pool: MaxPooling2D = MaxPooling2D::new(2).strides(2).padding(Padding::Valid)
norm: BatchNormalization = BatchNormalization::default().momentum(0.9).epsilon(1e-5)
dense: Dense = Dense::new(3).activation(Relu).kernel_initializer(Initializer::HeUniform)
drop_half: Dropout = Dropout::new(0.5)
drop_depth: Dropout = Dropout::new(0.1).noise_shape((1, 1, 1))
inlet: Input = Input::new((3, 32, 32))
weights: Weights = Weights::file("none.safetensors")
vgg: Network = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32))
resnet: Network = ResNet50::new(Weights::Random(0)).classes(10).classifier_activation(Softmax)
narrow: Network = EfficientNetB0::new(Weights::Random(0)).include_top(false).alpha(0.5).pooling(Pooling::Avg)
lite: Network = EfficientNetLite0::new(Weights::Random(0)).drop_connect_rate(0.2)
normalised: Network = Vgg16Bn::new(Weights::Random(0))
by_name: Network = Network::named("convnext_atto", Weights::Random(0))?
small_nets: [Network; 4] = [MobileNetV2::new(Weights::Random(0)), MobileNetV3Small::new(Weights::Random(0)), MobileNetV3Large::new(Weights::Random(0)), EfficientNetV2S::new(Weights::Random(0))]
residual_nets: [Network; 4] = [ResNet18::new(Weights::Random(0)), ResNet34::new(Weights::Random(0)), ResNet101::new(Weights::Random(0)), DenseNet121::new(Weights::Random(0))]
newer_nets: [Network; 3] = [ConvNeXtTiny::new(Weights::Random(0)), VitTiny::new(Weights::Random(0)), VitSmall::new(Weights::Random(0)).pooling(Pooling::Token)]
weights_by_name: (Weights, Weights) = (Weights::named("convnext_tiny.in12k"), Weights::hub("timm/convnext_tiny.in12k"))
all_models: Models = models()
one_model: &ModelInfo = models().get("resnet50")?
its_weights: usize = models()["resnet50"].parameters + models().iter().count()
undescribed: Result<Pretrained, Error> = headstart::weights::Hub { offline: true, shared_cache: None, folder: std::env::temp_dir().join("headstart-none"), ..headstart::weights::Hub::from_environment()? }.describe("timm/none")
known: &[Pretrained] = headstart::weights::pretrained()
this: &Pretrained = headstart::weights::named("resnet50.a1_in1k")?
wanted: Preprocessing = this.preprocessing()
hub: Hub = headstart::weights::Hub::from_environment()?
whole: bool = hub.verify(this)?
would_be: PathBuf = hub.path(this)
unfetched: Result<PathBuf, Error> = headstart::weights::Hub { offline: true, shared_cache: None, folder: std::env::temp_dir().join("headstart-none"), ..hub.clone() }.fetch(this)
unread: Result<HashMap<String, Tensor>, Error> = headstart::weights::read_file("none.safetensors")
demo: Model = Vgg16::new(Weights::Demo).build()?
named_classes: Decoded = demo.decode_predictions(&demo.predict(&demo.preprocess(&random_uniform((1, 3, 64, 64), 0.0, 255.0)?)?)?, 3)?
base: Model = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32)).build()?
frozen: () = base.freeze()
unfrozen: () = base.unfreeze()
later: () = base.unfreeze_from("block5_conv1")?
until: () = base.freeze_until("block5_conv1")?
last_four: () = base.unfreeze_from(-4)?
layer_list: Vec<String> = base.layer_names()
layer_found: Arc<dyn Layer> = base.layer("block1_conv1")?
summary: Summary = base.summary()
state: String = summary.rows[0].state().to_string()
shapes: usize = base.input_shape().len() + base.output_shape().len()
params: Vec<Param> = base.params()
learning: usize = base.trainable_params().len()
first: Param = params[0].clone()
parts: (String, usize) = (first.name().to_owned(), first.count())
kinds: (bool, bool) = (first.is_trainable(), first.is_statistic())
by_variable: GradStore = value_and_gradients(|| Ok(Var::zeros(3, DType::F32, &device())?.sum_all()?))?.1
changed: () = first.set_trainable(false)
kept: Tensor = first.value(Mode::Inference)
variable: Var = first.var().clone()
put: () = first.set(&kept.zeros_like()?)?
copied: Tensor = first.copy()?
all_values: Vec<Tensor> = base.weights()?
put_back: () = base.set_weights(&all_values)?
of_mine: Param = Param::weight("w", &y)?
count_kept: Param = headstart::nn::Param::statistic("n", &y)?
applied: Tensor = Relu.apply(&y)?
builder: ModelBuilder = ModelBuilder::new("mine", &[2])?
node: NodeId = builder.input()
two_inputs: ModelBuilder = ModelBuilder::new("two", &[2])?.input_name("left")?
right_end: NodeId = two_inputs.add_input("right", &[2])?
sum_node: NodeId = two_inputs.add("sum", Add, &[two_inputs.input(), right_end])?
pair: Model = two_inputs.finish_many(&[("sum", sum_node)])?
ends: (Vec<String>, Vec<String>) = (pair.input_names(), pair.output_names())
one_row: Tensor = random_uniform((1, 2), 0.0, 1.0)?
sums: HashMap<String, Tensor> = pair.forward_many(&[("left", &one_row), ("right", &one_row)], Mode::Inference)?
predicted_sums: HashMap<String, Predictions> = pair.predict_many(&[("left", &one_row), ("right", &one_row)])?
trunk: Model = base.up_to("block4_pool")?
plan_here: Plan = trunk.plan()?
training_plan: Plan = base.plan_for(Mode::Training)?
outputs: Tensor = base.forward(&x, Mode::Inference)?
one: LayerSpec = headstart::nn::LayerSpec::from(Dense::new(1).activation(Sigmoid))
row: Sequential = Sequential::new()
added: () = { row.add(Input::new(2)); row.add(Dense::new(1)) }
plain: Model = row.build()?
small: Model = sequential![Input::new((3, 32, 32)), Flatten, Dense::new(1).activation(Sigmoid)]?
model_name: String = small.name().to_owned()
metric_name: String = Accuracy.name().to_owned()
inner_maps: Vec<Tensor> = base.outputs_of(&["block1_conv1"], &x)?
statistics_free: () = base.unfreeze_statistics()
resting: bool = first.is_in_inference_mode()
restless: () = first.set_inference_mode(false)
scaled: Rescaling = Rescaling::new(2.0).offset(-1.0)
mean_pool: AveragePooling2D = AveragePooling2D::new(2).strides(2).padding(Padding::Same)
adam: GradientDescent<Moments> = Adam::new(1e-3).weight_decay(0.01).global_clipnorm(1.0).exclude_from_weight_decay(&["bias"])
adam_too: GradientDescent<Moments> = Adam::default().beta_1(0.9).beta_2(0.99).epsilon(1e-8).clipnorm(1.0)
accumulating: GradientDescent<Moments> = Adam::new(1e-3).gradient_accumulation_steps(4)
averaging: GradientDescent<Moments> = Adam::new(1e-3).use_ema(true).ema_momentum(0.9).ema_overwrite_frequency(10)
adamw: GradientDescent<Moments> = AdamW::new(1e-3).layerwise_decay(&base, 0.9)
sgd: GradientDescent<Momentum> = SGD::new(0.1).momentum(0.9).nesterov(true).clipvalue(0.5).learning_rate_multiplier(&base, 0.1)
rmsprop: GradientDescent<MeanSquare> = RMSprop::new(Schedule::one_cycle(0.1, 10)).rho(0.9).centered(true).epsilon(1e-6)
falling: Schedule = Schedule::cosine_decay(0.0, 100).alpha(0.1).warmup(0.1, 10)
again_falling: Schedule = Schedule::cosine_decay_restarts(0.1, 10).restarts(2.0, 0.5)
stepped: [Schedule; 3] = [Schedule::piecewise_constant(&[1], &[0.1, 0.01]), Schedule::exponential_decay(0.1, 10, 0.5), Schedule::step_decay(0.1, 10, 0.5)]
rate_there: f64 = falling.at(3)
loss_of_logits: BuiltInLoss = BinaryCrossentropy.from_logits(true).label_smoothing(0.1)
metrics_of_classes: [MetricSpec; 2] = [Accuracy, TopKCategoricalAccuracy(5)]
metric_of_labels: MetricSpec = BinaryAccuracy
early: EarlyStopping = EarlyStopping::new("loss").patience(2).min_delta(0.1).restore_best_weights(true).start_from_epoch(1).baseline(9.0)
plateau: ReduceLROnPlateau = ReduceLROnPlateau::new("loss").factor(0.5).patience(2).min_delta(0.1).cooldown(1).min_lr(1e-6)
checkpoint: ModelCheckpoint = ModelCheckpoint::new(std::env::temp_dir().join("headstart-types.safetensors")).monitor("loss").mode("min").save_best_only(true).save_weights_only(true).save_freq(2).initial_value_threshold(9.0)
shared: SharedCallback<TerminateOnNaN> = SharedCallback::new(TerminateOnNaN)
locked: TerminateOnNaN = shared.lock().clone()
backup: BackupAndRestore = BackupAndRestore::new(std::env::temp_dir().join("headstart-types.backup"))
csv: CSVLogger = CSVLogger::new(std::env::temp_dir().join("headstart-types.csv")).append(true)
mlflow: MLflowLogger = MLflowLogger::new(std::env::temp_dir().join("headstart-mlruns")).experiment("types").run_name("one").param("units", 32)
told: Fit = Fit::epochs(3).initial_epoch(1).validation_split(0.25).class_weight([(0, 1.0), (1, 2.0)]).callback(early).callback(LearningRateScheduler::new(|_, rate| rate))
watched: Fit = Fit::epochs(2).cache_features(false).cache_memory(1 << 20).cache_folder(std::env::temp_dir().join("headstart-cached")).cache_folder_bytes(1 << 30).augmented_views(1).advice(false).on_epoch_end(|t| { let all = (t.model().name().len(), t.epoch(), t.epochs(), t.batch(), t.batches(), t.values().len(), t.value("loss")?, t.history().epochs()); t.set_learning_rate(t.learning_rate())?; if all.1 > 9 { t.stop("enough".into()) }; Ok(()) })
setting: Fit = Fit::epochs(2).batch_size(2).shuffle(true).verbose(false).chart(false).validation_data((&x, &y)).validation_batch_size(2)
datagen: ImageDataGenerator = ImageDataGenerator::new().rotation_range(20.0).width_shift_range(0.2).height_shift_range(0.2)
flipped: ImageDataGenerator = ImageDataGenerator::new().zoom_range(0.1).horizontal_flip(true).vertical_flip(true).rescale(0.5)
changed_more: ImageDataGenerator = ImageDataGenerator::new().shear_range(5.0).channel_shift_range(9.0).brightness_range(0.8, 1.2).fill_mode(FillMode::Reflect)
cropped: ImageDataGenerator = ImageDataGenerator::new().random_resized_crop(0.5, 1.0).color_jitter(0.1, 0.1, 0.1).cutout(0.2).mixup(0.2).cutmix(0.2)
normal: ImageDataGenerator = ImageDataGenerator::new().samplewise_center(true).samplewise_std_normalization(true).featurewise_center(true).featurewise_std_normalization(true).zca_whitening(true).zca_epsilon(1e-3).preprocessing_function(|_| {})
fitted: () = datagen.fit(&x)?
flow: Flow = datagen.flow(&x, &y, 2)?
samples: Samples = headstart::data::Samples::new(&x, &y, 2, false)?.weighted(&y)?
own_place: PathBuf = temporary_folder("types")?
drawn: () = draw_demo_images(std::env::temp_dir().join("headstart-cats"), 4, 32, 1)?
images: Images = Images::from_directory(std::env::temp_dir().join("headstart-cats"), (32, 32))?
for_a_model: ImageFiles = ImageFiles::from_directory(std::env::temp_dir().join("headstart-cats"), &small)?
image_files: ImageFiles = ImageFiles::from_directory(std::env::temp_dir().join("headstart-cats"), (32, 32))?.exif_orientation(false)
from_list: ImageFiles = ImageFiles::from_paths(image_files.paths.iter().map(|path| (path, "one")), (8, 8))?
no_table: Result<ImageFiles, Error> = ImageFiles::from_csv("none.csv", "", (8, 8))
flat_files: ImageFiles = ImageFiles::without_classes(std::env::temp_dir().join("headstart-cats"), (8, 8))?
edited_files: ImageFiles = image_files.with_edits("none.csv")?
edited_images: Images = images.with_edits("none.csv")?
whole_files: (ImageFiles, Vec<PathBuf>) = image_files.without_damaged()?
read_in: Images = from_list.load()?
file_flow: Flow = datagen.flow_files(&image_files, 4)?
folder_flow: Flow = datagen.flow_from_directory(std::env::temp_dir().join("headstart-cats"), (32, 32), 4)?
prepared_flow: ImageDataGenerator = ImageDataGenerator::new().preprocess_for(&demo)?
halves: (Images, Images) = images.split(0.5)?
many: (usize, bool) = (images.len(), images.is_empty())
labels: String = images.labels()?[0].to_owned()
sheet: ImageGrid = ImageGrid::new(&x, &["a", "b", "c", "d"])?
text: Text = Text::new("shown")
shown: Display = display(&text)
cleared: () = clear_output(true)
asked: String = input("").unwrap_or_default()
secret: String = input_password("").unwrap_or_default()
glued: () = glue("accuracy", 0.5)?
he: Network = Vgg16::new(Weights::Random(0)).initializer(Initializer::HeNormal).skip_mismatch(true)
"""
TRAINED = """
compiled: () = small.compile(Adam::default(), BinaryCrossentropy, [Accuracy])
history: History = small.fit((&x, &y), setting)?
predictions: Predictions = small.predict(&images.x)?
beside: ImageGrid = images.with_predictions(&predictions)?
as_tensor: Tensor = predictions.to_tensor()?
rows: (usize, bool, usize) = (predictions.len(), predictions.is_empty(), predictions.iter().count())
scores: Scores = small.evaluate(&x, &y)?
scores_on: Scores = small.evaluate_on((&x, &y), 2)?
batched: Predictions = small.predict_in_batches(&x, 2)?
loss: Option<f64> = scores.get("loss")
epochs: usize = history.epochs()
names: Vec<String> = history.names().to_vec()
chart: Chart = history.plot()?
drawing: String = format!("{}{}", chart.svg(), chart.text())
drawn: Chart = base.plot()
part: Chart = base.plot_block("block1_")?
flow: Chart = Chart::steps(&[("load", "a network")])
bars: Chart = Chart::bars("accuracy", &[("frozen", [0.9, 0.8])])?
dotted: Chart = Chart::dots("accuracy", &[("frozen", [0.9, 0.8])])?
in_pairs: Chart = Chart::paired("accuracy", ("VGG16", &[0.9, 0.8]), ("ResNet50", &[0.8, 0.9]))?
curves: Lines = Lines::new("loss", "step", "loss").line("one", [(1.0, 0.5, 0.1)]).dashed("other", [(1.0, 0.4, 0.0)]).reference("chance", 0.5)
log_curves: Lines = curves.clone().log_x().log_y().x_ticks([1.0, 10.0])
steps_shown: Chart = Chart::workflow()
compared: Chart = Chart::comparison("loss", &[("one", &history), ("other", &history)])?
saved: () = chart.save(std::env::temp_dir().join("headstart-types.svg"))?
weights_kept: () = small.save_weights(std::env::temp_dir().join("headstart-types.safetensors"))?
weights_back: () = small.load_weights(std::env::temp_dir().join("headstart-types.safetensors"))?
found_again: Result<Recovered, Error> = small.recover()
joined: () = history.append(small.fit((&x, &y), told)?)
watched_history: History = small.fit((&x, &y), watched)?
curve: LearningRateCurve = small.find_learning_rate((&x, &y), 2)?
rate: f64 = curve.suggestion()
headed: Model = sequential![&base, Flatten, Dense::new(1).activation(Sigmoid)]?
no_head: Result<History, Error> = headed.fine_tune((&x, &y), "block5_conv1", Fit::epochs(1), Fit::epochs(1))
copied: Chart = Chart::transfer(&headed, ("drawings", &images.x), ("your task", &images.x))?
unfrozen_chart: Chart = Chart::unfrozen(&headed, &[(0, "none"), (1, "block 5")])?
weights_that_fit: () = small.load_weights_skip_mismatch(std::env::temp_dir().join("headstart-types.safetensors"))?
sure: (Vec<usize>, Vec<f32>) = (predictions.classes(), predictions.confidences())
matrix: ConfusionMatrix = images.confusion_matrix(&predictions)?
right_share: f64 = matrix.accuracy() + matrix.counts().len() as f64
report: ClassificationReport = matrix.report()
embedding: Embedding = images.embedding(&images.x)?
places: (usize, usize, f64) = (embedding.points().len() + embedding.class_names().len(), embedding.of_class(0).count(), embedding.explained_variance_ratio()[0])
embedded: Chart = embedding.plot()?
worst: ImageGrid = images.most_confident_mistakes(&predictions, 3)?
large: Tensor = random_uniform((1, 3, 64, 64), 0.0, 255.0)?
heat: HeatMaps = demo.grad_cam(&large, GradCam::new().layer("block3_conv1").class(1))?
heated: ImageGrid = heat.clone().class_names(&["a", "b"]).over(&large)?
map_sheet: ImageGrid = ImageGrid::of_maps(&inner_maps[0].i(0)?)?
whole_model: () = small.save(std::env::temp_dir().join("headstart-model.safetensors"))?
exported: () = small.export_onnx(std::env::temp_dir().join("headstart-model.onnx"))?
imported: Model = Model::from_onnx(std::env::temp_dir().join("headstart-model.onnx"))?
low_rank: Lora = Lora::new(1).alpha(2.0)
adapted: () = imported.enable_lora(low_rank, |name| name.starts_with("dense"))?
merged: () = imported.merge_lora()?
loaded: Model = Model::load(std::env::temp_dir().join("headstart-model.safetensors"))?
updated: () = shown.update(&chart)
started: () = headstart::start()
plain: () = headstart::display::set_pretty_debug(false)
of_each: Vec<f64> = predictions.losses(&images.y)?
careful: Predictions = predictions.clone().with_threshold(0.9)?
cooler: Predictions = predictions.with_temperature(2.0)?
temperature: Result<f64, Error> = predictions.fit_temperature(&images.y)
views: Predictions = small.predict_augmented(&images.x, &ImageDataGenerator::new().horizontal_flip(true), 2)?
likely: (f64, f64) = matrix.accuracy_interval()
five_folds: Vec<(Tensor, Tensor)> = stratified_folds(&images.y, 4)?
two_of_them: Images = images.select(&[0, 1])?
neighbours: KNeighborsClassifier = KNeighborsClassifier::new(&images.x, &images.y, 3)?
voted: Predictions = neighbours.predict(&images.x)?
similar: NearDuplicates = images.near_duplicates(&images.x, 0.99)?
pairs_found: usize = similar.pairs().len()
suspects: ImageGrid = images.top_losses(&predictions, 3)?
cleaner: ImageCleaner = images.cleaner(&predictions, 3, std::env::temp_dir().join("headstart-edits.csv"))?
feature_folder: PathBuf = std::env::temp_dir().join(format!("headstart-features-{}", std::process::id()))
extracted: usize = small.extract_features(&image_files, &feature_folder, (0, 1))?
all_features: ImageFeatures = ImageFeatures::load(&feature_folder)?
feature_count: (usize, bool) = (all_features.len(), all_features.is_empty())
reliability: Calibration = Calibration::new(&images.y, &predictions, 15)?
gap: f64 = reliability.error() + reliability.bins().len() as f64
trade: PrecisionRecall = PrecisionRecall::new(&images.y, &predictions)?
along: (Vec<f64>, Vec<f64>, Vec<f64>) = (trade.thresholds(), trade.precision(), trade.recall())
cheapest: f64 = trade.average_precision() + trade.cheapest_threshold(1.0, 10.0)?
reliability_drawn: (Chart, Chart) = (reliability.plot()?, trade.plot()?)
"""
# The standard library, of which rust-analyzer reads reduced sources.
STANDARD = """
shifted: u8 = 1u8 << 3usize
shifted_back: i64 = &1i64 >> &2u8
wrapped: Wrapping<u16> = &std::num::Wrapping(2u16) * std::num::Wrapping(3)
wrapped_back: Wrapping<i8> = -std::num::Wrapping(2i8) << 1
saturated: Saturating<u32> = std::num::Saturating(2u32) - std::num::Saturating(3)
both: bool = 3u8 & 1 == 1
numbers: Vec<f64> = vec![3.0, 1.0, 2.0]
summed: f64 = numbers.iter().map(|x| x * 2.0).sum::<f64>()
most: Option<f64> = numbers.iter().copied().max_by(|a, b| a.total_cmp(b))
pairs: Vec<(usize, char)> = "abc".chars().enumerate().filter(|(at, _)| at % 2 == 0).collect::<Vec<_>>()
differences: Vec<f64> = numbers.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>()
pieces: Vec<Vec<f64>> = numbers.chunks(2).map(<[f64]>::to_vec).collect::<Vec<_>>()
found: Option<usize> = numbers.iter().position(|x| *x == 1.0)
split: (Vec<f64>, Vec<f64>) = numbers.iter().copied().partition::<Vec<_>, _>(|x| *x > 1.5)
zipped: HashMap<&str, i32> = ["a", "b"].into_iter().zip([1, 2]).collect::<std::collections::HashMap<_, _>>()
words: Vec<String> = "one two".split_whitespace().map(str::to_uppercase).collect::<Vec<_>>()
order: Ordering = 1.cmp(&2).then(3.cmp(&4)).reverse()
larger: i32 = std::cmp::max(1, 2)
parsed: u16 = "12".parse::<u16>()?
text: String = format!("{:.2}", 1.5) + &3.to_string()
converted: i64 = i64::from(3u8) + i64::try_from(4u64)?
folded: u64 = (1..=5u64).rev().step_by(2).fold(1, |a, b| a * b)
nested: Option<Result<u8, String>> = Some(3u8).map(|x| if x > 2 { Ok(x) } else { Err("few".to_owned()) })
shared: Arc<Mutex<Vec<i32>>> = std::sync::Arc::new(std::sync::Mutex::new(vec![1]))
boxed: Box<dyn Fn(f32) -> f32> = Box::new(|x: f32| x + 1.0) as Box<dyn Fn(f32) -> f32>
time: Duration = std::time::Duration::from_millis(5) * 2
"""
# Functions that only the kernel calls, in generated code.
OF_THE_KERNEL = "variables.rs"
# Functions that only authors of layers call, with a generator of the rand crate.
WITH_A_GENERATOR = {"draw", "permutation", "seeded", "stream", "uniform", "with_random", "add", "finish"}


def lines(table):
    return [re.fullmatch(r"(\w+): (.+?) = (.+)", line).groups() for line in table.strip().splitlines()]


def test_the_table_contains_every_public_function():
    public = set()
    for path in set((ROOT / "src").rglob("*.rs")) - {ROOT / "src" / OF_THE_KERNEL}:
        public |= set(re.findall(r"^\s*pub fn (\w+)", path.read_text(), re.M))
    code = INFERRED + TRAINED + WIDGETS
    assert {name for name in public - WITH_A_GENERATOR if not re.search(rf"\b{name}\b", code)} == set()


def test_every_public_function_of_the_prelude_infers(kernel):
    expected = {}
    for table in (INFERRED, TRAINED, WIDGETS, STANDARD):
        kernel.ok("\n".join(f"let mut {name} = {code};" for name, _, code in lines(table)))
        expected |= {name: kind for name, kind, _ in lines(table)}
    found = dict(line.split(": ", 1) for line in kernel.ok(":vars").strip().splitlines())
    short = {name: re.sub(r"(\w+::)+", "", kind) for name, kind in found.items()}
    for moved in ("early", "row", "setting", "told", "two_inputs", "watched"):  # into a fit or a model
        del expected[moved]
    assert {name: short.get(name) for name in expected} == expected
