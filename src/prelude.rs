//! The names that are in scope in every notebook cell: `use headstart::prelude::*;`.

pub use candle_core::{self, D, DType, Device, IndexOp, Tensor, Var};
pub use candle_nn;

pub use crate::chart::{Chart, Lines, ResultsTable};
pub use crate::data::{
    Dataset, FillMode, ImageDataGenerator, ImageFiles, Images, draw_demo_images, stratified_folds,
};
pub use crate::display::{
    Button, Checkbox, Display, Dropdown, FileUpload, FloatSlider, HBox, ImageGrid, ImageView, IntSlider,
    Label, Output, Show, Text, TextInput, VBox, clear_output, display, glue, input, input_password,
};
pub use crate::explain::{
    Calibration, ConfusionMatrix, Embedding, GradCam, KNeighborsClassifier, PrecisionRecall,
};
pub use crate::models::{
    ConvNeXtTiny, DenseNet121, EfficientNetB0, EfficientNetLite0, EfficientNetV2S, MobileNetV2,
    MobileNetV3Large, MobileNetV3Small, Network, Pooling, ResNet18, ResNet34, ResNet50, ResNet101, Vgg16,
    Vgg16Bn, VitSmall, VitTiny, models, preprocess_input,
};
pub use crate::nn::Activation::{self, Linear, Relu, Sigmoid, Softmax, Tanh};
pub use crate::nn::{
    Add, Affine, AveragePooling2D, BatchNormalization, Build, ClassToken, Concatenate, Context, Conv2D,
    Dense, Dropout, FirstToken, Flatten, GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalMaxPooling2D,
    GlobalResponseNormalization, GroupNormalization, Initializer, Input, Layer, LayerNormalization,
    LayerScale, Lora, MaxPooling2D, Mode, Model, ModelBuilder, MultiHeadAttention, Multiply, Padding, Param,
    Permute, PositionEmbedding, Rescaling, Reshape, SeparableConv2D, Sequential, StochasticDepth,
    UpSampling2D, ZeroPadding2D,
};
pub use crate::ops::value_and_gradients;
pub use crate::random::{random_uniform, set_random_seed};
pub use crate::train::{
    AUC, Accuracy, Adam, AdamW, BackupAndRestore, BinaryAccuracy, BinaryCrossentropy,
    BinaryFocalCrossentropy, BuiltInLoss, CSVLogger, CategoricalCrossentropy, EarlyStopping, F1Score, Fit,
    History, Huber, ImageFeatures, LearningRateScheduler, Loss, MLflowLogger, MeanAbsoluteError,
    MeanSquaredError, Metric, MetricSpec, ModelCheckpoint, Optimizer, Precision, RMSprop, Recall,
    ReduceLROnPlateau, SGD, Schedule, SharedCallback, SparseCategoricalCrossentropy, TensorBoard,
    TerminateOnNaN, TopKCategoricalAccuracy,
};
pub use crate::weights::Weights;
pub use crate::{
    GpuPrecision, Result as HeadstartResult, check_interrupt, device, gpu_precision, sequential,
    set_gpu_precision, show, temporary_folder,
};
