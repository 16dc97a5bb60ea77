//! The names that are in scope in every notebook cell: `use headstart::prelude::*;`.

pub use candle_core::{self, D, DType, Device, IndexOp, Tensor, Var};
pub use candle_nn;

pub use crate::chart::{Chart, Lines, ResultsTable};
pub use crate::data::{Dataset, FillMode, ImageDataGenerator, ImageFiles, Images, draw_demo_images};
pub use crate::display::{
    Button, Checkbox, Display, Dropdown, FileUpload, FloatSlider, ImageGrid, ImageView, IntSlider, Label,
    Output, Show, Text, TextInput, clear_output, display, glue, input, input_password,
};
pub use crate::explain::{ConfusionMatrix, Embedding, GradCam};
pub use crate::models::{
    EfficientNetB0, EfficientNetLite0, Pooling, ResNet50, Vgg16, Vgg16Bn, preprocess_input,
};
pub use crate::nn::Activation::{self, Linear, Relu, Sigmoid, Softmax, Tanh};
pub use crate::nn::{
    Add, AveragePooling2D, BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D,
    GlobalMaxPooling2D, Initializer, Input, Layer, MaxPooling2D, Mode, Model, ModelBuilder, Multiply,
    Padding, Rescaling, Reshape, Sequential,
};
pub use crate::ops::value_and_gradients;
pub use crate::random::{random_uniform, set_random_seed};
pub use crate::train::{
    AUC, Accuracy, Adam, AdamW, BackupAndRestore, BinaryCrossentropy, BinaryFocalCrossentropy, BuiltInLoss,
    CSVLogger, CategoricalCrossentropy, EarlyStopping, F1Score, Fit, History, Huber, LearningRateScheduler,
    Loss, MeanAbsoluteError, MeanSquaredError, Metric, MetricSpec, ModelCheckpoint, Precision, RMSprop,
    Recall, ReduceLROnPlateau, SGD, Schedule, SharedCallback, SparseCategoricalCrossentropy, TensorBoard,
    TerminateOnNaN, TopKCategoricalAccuracy,
};
pub use crate::weights::Weights;
pub use crate::{Result as HeadstartResult, check_interrupt, device, sequential, show};
