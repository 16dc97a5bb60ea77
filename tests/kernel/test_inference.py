"""rust-analyzer knows the type of whatever the prelude gives, from sources without bodies."""

import re

from conftest import ROOT

# A variable, the expression whose type must be found, and that type.
INFERRED = """
seeded: () = set_random_seed(1)
here: Device = device()
go_on: () = check_interrupt()?
cells: usize = headstart::cells_run()
x: Tensor = random_uniform((4, 3, 32, 32), 0.0, 255.0)?
y: Tensor = Tensor::new(&[0f32, 1.0, 0.0, 1.0], &device())?
ready: Tensor = preprocess_input(&x)?
conv: Conv2D = Conv2D::new(2, 3).strides(1).padding(Padding::Same).activation(Relu).use_bias(true)
he: Conv2D = Conv2D::new(2, 3).kernel_initializer(Initializer::HeUniform)
own_window: Conv2D = Conv2D::depthwise(3).strides(2)
pool: MaxPooling2D = MaxPooling2D::new(2).strides(2).padding(Padding::Valid)
norm: BatchNormalization = BatchNormalization::default().momentum(0.9).epsilon(1e-5)
dense: Dense = Dense::new(3).activation(Relu).kernel_initializer(Initializer::HeUniform)
drop_half: Dropout = Dropout::new(0.5)
inlet: Input = Input::new((3, 32, 32))
weights: Weights = Weights::file("none.safetensors")
vgg: Network = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32))
resnet: Network = ResNet50::new(Weights::Random(0)).classes(10).classifier_activation(Softmax)
narrow: Network = EfficientNetB0::new(Weights::Random(0)).include_top(false).alpha(0.5).pooling(Pooling::Avg)
lite: Network = EfficientNetLite0::new(Weights::Random(0))
normalised: Network = Vgg16Bn::new(Weights::Random(0))
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
changed: () = first.set_trainable(false)
kept: Tensor = first.value(Mode::Inference)
variable: Var = first.var().clone()
put: () = first.set(&kept.zeros_like()?)?
of_mine: Param = headstart::nn::Param::weight("w", &y)?
count_kept: Param = headstart::nn::Param::statistic("n", &y)?
applied: Tensor = Relu.apply(&y)?
builder: ModelBuilder = ModelBuilder::new("mine", &[2])?
node: NodeId = builder.input()
outputs: Tensor = base.forward(&x, Mode::Inference)?
one: LayerSpec = headstart::nn::LayerSpec::from(Dense::new(1).activation(Sigmoid))
plain: Model = Sequential::new(vec![Input::new(2).into(), Dense::new(1).activation(Sigmoid).into()])?
small: Model = sequential![Input::new((3, 32, 32)), Flatten, Dense::new(1).activation(Sigmoid)]?
model_name: String = small.name().to_owned()
metric_name: String = Accuracy.name().to_owned()
adam: Adam = Adam::new(1e-3).weight_decay(0.01).global_clipnorm(1.0)
setting: Fit = Fit::epochs(2).batch_size(2).shuffle(true).verbose(false).chart(false).validation_data((&x, &y))
datagen: ImageDataGenerator = ImageDataGenerator::new().rotation_range(20.0).width_shift_range(0.2).height_shift_range(0.2)
flipped: ImageDataGenerator = ImageDataGenerator::new().zoom_range(0.1).horizontal_flip(true).vertical_flip(true).rescale(0.5)
fitted: () = datagen.fit(&x)?
flow: Flow = datagen.flow(&x, &y, 2)?
samples: Samples = headstart::data::Samples::new(&x, &y, 2, false)?
drawn: () = draw_pictures(std::env::temp_dir().join("headstart-cats"), 4, 32, 1)?
images: Images = Images::from_directory(std::env::temp_dir().join("headstart-cats"), (32, 32))?
halves: (Images, Images) = images.split(0.5)?
many: (usize, bool) = (images.len(), images.is_empty())
labels: String = images.labels()?[0].to_owned()
sheet: Pictures = Pictures::new(&x, &["a", "b", "c", "d"])?
text: Text = Text::new("shown")
shown: Display = display(&text)
cleared: () = clear_output(true)
asked: String = input("")?
secret: String = input_password("")?
"""
TRAINED = """
compiled: () = small.compile(Adam::default(), BinaryCrossentropy, [Accuracy])
history: History = small.fit((&x, &y), setting)?
predictions: Predictions = small.predict(&images.x)?
beside: Pictures = images.with_predictions(&predictions)?
as_tensor: Tensor = predictions.to_tensor()?
rows: (usize, bool, usize) = (predictions.len(), predictions.is_empty(), predictions.iter().count())
scores: Scores = small.evaluate(&x, &y)?
loss: Option<f64> = scores.get("loss")
epochs: usize = history.epochs()
names: Vec<String> = history.names().to_vec()
chart: Chart = history.plot()?
drawing: String = format!("{}{}", chart.svg(), chart.text())
saved: () = chart.save(std::env::temp_dir().join("headstart-types.svg"))?
weights_kept: () = small.save_weights(std::env::temp_dir().join("headstart-types.safetensors"))?
weights_back: () = small.load_weights(std::env::temp_dir().join("headstart-types.safetensors"))?
found_again: Result<Recovered, Error> = small.recover()
updated: () = shown.update(&chart)
started: () = headstart::start()
"""
# What only someone who writes a layer calls, with a generator of the rand crate.
WITH_A_GENERATOR = {"draw", "permutation", "seeded", "stream", "uniform", "with_random", "add", "finish"}


def lines(table):
    return [re.fullmatch(r"(\w+): (.+?) = (.+)", line).groups() for line in table.strip().splitlines()]


def test_the_table_holds_every_public_function():
    public = set()
    for path in (ROOT / "src").rglob("*.rs"):
        public |= set(re.findall(r"^\s*pub fn (\w+)", path.read_text(), re.M))
    code = INFERRED + TRAINED
    assert {name for name in public - WITH_A_GENERATOR if not re.search(rf"\b{name}\b", code)} == set()


def test_every_public_function_of_the_prelude_infers(kernel):
    expected = {}
    for table in (INFERRED, TRAINED):
        kernel.ok("\n".join(f"let mut {name} = {code};" for name, _, code in lines(table)))
        expected |= {name: kind for name, kind, _ in lines(table)}
    found = dict(line.split(": ", 1) for line in kernel.ok(":vars").strip().splitlines())
    short = {name: re.sub(r"(\w+::)+", "", kind) for name, kind in found.items()}
    del expected["setting"]  # moved into fit
    assert {name: short.get(name) for name in expected} == expected
