// Recipe: everything a run is made of, read from a TOML file and validated before anything starts.
//
// Each field is a key of the file, under the table of its struct; the comments are the recipe reference. Unknown keys,
// wrong types and impossible combinations throw ConfigError with "file:line: key: what was expected, what came"; for a
// value given on the command line, "--set train.epochs=abc" stands in place of file:line.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qm {

enum class Precision { kFp64, kFp32, kBf16 };
enum class FineOrderKey { kQuadtree, kWindowRaster };
enum class StemFilters { kIndependent, kStratified };
enum class Resampling { kBilinear, kBicubic, kRandom };
enum class NotFinite { kStop, kSkip };

struct Recipe {
  std::string name;                        ///< run folder's name when --run is absent; default: the file's stem
  std::uint64_t seed = 0;                  ///< key of all random numbers
  Precision precision = Precision::kFp32;  ///< "fp64" (CPU only), "fp32", "bf16" (GPU only)

  struct Model {
    std::string size;                      ///< "nano", "lite", "tiny", "small", "base"; sets dim and depths
    std::int64_t dim = 0;                  ///< channels of the first stage; given instead of size, with depths
    std::array<std::int64_t, 4> depths{};  ///< blocks a stage
    std::int64_t state_size = 1;           ///< N
    FineOrderKey fine_order = FineOrderKey::kQuadtree;  ///< "quadtree" or "window_raster" (the released code's)
    std::int64_t classes = 0;                           ///< required
    double drop_path = 0;                               ///< rate of the last block; earlier ones rise linearly to it
    /// Initial filters of the first convolution: "independent" (published), or "stratified", whose sums are nearly zero,
    /// so that the LayerNorm behind it does not divide colours and edges by brightness.
    StemFilters stem_filters = StemFilters::kIndependent;
    std::int64_t height = 0, width = 0;  ///< input size: image_size = 224 or [height, width]; at least 32

    friend bool operator==(const Model&, const Model&) = default;
  } model;

  struct Data {
    std::string path;  ///< folder of shards; --data overrides
    std::array<double, 3> mean{0.485, 0.456, 0.406};
    std::array<double, 3> std{0.229, 0.224, 0.225};
    std::int64_t threads = 2;   ///< decoding threads a rank
    std::int64_t prefetch = 4;  ///< batches decoded ahead
    std::string shuffle = "full";         ///< "full", or "window": shards in random order, shuffled within a window only
    std::int64_t shuffle_window = 65536;  ///< samples of a window
    bool dct_scaling = false;  ///< training decodes JPEGs at ½, ¼ or ⅛ where "resized" needs no more; evaluation never

    friend bool operator==(const Data&, const Data&) = default;
  } data;

  /// Training augmentation, in this order: crop, resize to the model's input, flip, RandAugment, colour jitter, and
  /// after normalisation erasing.
  struct Augment {
    std::string crop = "none";              ///< "none", "pad" (random crop with padding), "resized" (random resized)
    std::int64_t padding = 0;               ///< pixels of zeros on each side, for "pad"
    std::array<double, 2> area{0.08, 1.0};  ///< fraction of the image's area, for "resized"
    std::array<double, 2> ratio{3.0 / 4.0, 4.0 / 3.0};  ///< width / height, for "resized"
    double flip = 0;                                    ///< probability of a horizontal flip
    Resampling interpolation = Resampling::kBicubic;    ///< "bilinear", "bicubic", or "random" (either, anew each time)
    std::string rand_augment;                           ///< timm's text, such as "rand-m9-mstd0.5-inc1"; "" = off
    std::array<double, 4> color_jitter{};  ///< strength of brightness, contrast, saturation, hue (at most ½); 0 = off
    double color_jitter_probability = 1;   ///< that an image's colours are changed at all
    double erase_probability = 0;          ///< that boxes of an image are erased
    std::string erase_fill = "pixel";      ///< "const" (mean colour), "rand" (a colour a box), "pixel" (noise)
    std::int64_t erase_count = 1;          ///< most boxes an image; their number is uniform, their area shared
    std::int64_t repeats = 1;              ///< times an image comes in an epoch, which then sees fewer of them

    friend bool operator==(const Augment&, const Augment&) = default;
  } augment;

  /// Mixup and cutmix over groups of `group` consecutive positions of the global batch.
  struct Mix {
    double mixup = 0;                 ///< α of the Beta distribution; 0 = off
    double cutmix = 0;                ///< α; 0 = off
    double probability = 1;           ///< that a group is mixed at all
    double switch_probability = 0.5;  ///< that a mixed group takes cutmix where both are on
    /// Turns cutmix on with sides that are a uniform share of the image's, between these, and not by λ; [0, 0] = off.
    std::array<double, 2> cutmix_minmax{};
    std::int64_t group = 128;         ///< even; divides the global batch unless the global batch is smaller
    std::string mode = "batch";       ///< who shares a draw: "batch" (a group), "pair", "elem" (nobody)
    std::int64_t off_epoch = 0;       ///< from this epoch on nothing is mixed; 0 = never

    bool mixes() const { return mixup > 0 || cutmix > 0 || cutmix_minmax[1] > 0; }

    friend bool operator==(const Mix&, const Mix&) = default;
  } mix;

  struct Train {
    std::int64_t global_batch = 0;  ///< samples a step over all ranks and accumulation; required
    std::int64_t micro_batch = 0;   ///< samples a rank works on at once; 0 = its whole share
    std::int64_t epochs = 0;        ///< required
    std::int64_t max_steps = 0;     ///< ends the run early (the schedule stays that of `epochs`); 0 = off
    double label_smoothing = 0;
    double clip_grad_norm = 5;    ///< 0 = off
    double ema_decay = 0;         ///< 0 = no EMA
    bool activation_checkpointing = false;  ///< blocks are computed again in backward: less memory, the same numbers
    bool graph = true;            ///< on a GPU, capture the step as a CUDA graph and replay it
    std::int64_t log_every = 20;  ///< steps between log lines
    NotFinite not_finite = NotFinite::kStop;  ///< "stop" or "skip" a step whose loss or gradients are not finite

    friend bool operator==(const Train&, const Train&) = default;
  } train;

  struct Optimizer {                ///< AdamW
    double learning_rate = 0;       ///< peak rate at this global batch; required unless base_learning_rate is given
    double base_learning_rate = 0;  ///< peak rate at a global batch of 512, scaled linearly
    double weight_decay = 0.05;
    double beta1 = 0.9, beta2 = 0.999;
    double epsilon = 1e-8;

    friend bool operator==(const Optimizer&, const Optimizer&) = default;
  } optimizer;

  /// Linear warm-up then cosine, both per step. The two rates below scale like the peak: as given with learning_rate,
  /// times global batch / 512 with base_learning_rate.
  struct Schedule {
    double warmup_epochs = 0;
    double warmup_learning_rate = 0;  ///< rate of the first step
    double min_learning_rate = 0;     ///< rate of the last step

    friend bool operator==(const Schedule&, const Schedule&) = default;
  } schedule;

  struct Eval {
    std::int64_t every_steps = 0;   ///< 0 = off
    std::int64_t every_epochs = 1;  ///< 0 = off; the end of the run is always evaluated
    std::int64_t batch = 0;         ///< samples a rank; 0 = that of training
    std::int64_t resize = 0;        ///< short side before the centre crop; 0 = resize straight to the input
    double crop_pct = 0;            ///< in place of resize: input size / short side, such as 0.875; 0 = not given
    Resampling interpolation = Resampling::kBicubic;  ///< "bilinear" or "bicubic"

    /// The short side that resize or crop_pct asks for, for an input whose longer side is `input`.
    std::int64_t short_side(std::int64_t input) const;

    friend bool operator==(const Eval&, const Eval&) = default;
  } eval;

  struct Checkpoint {
    std::int64_t every_steps = 0;   ///< 0 = off
    std::int64_t every_epochs = 1;  ///< 0 = off; the end of the run is always saved
    std::int64_t keep_last = 3;     ///< the best is kept besides

    friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
  } checkpoint;

  friend bool operator==(const Recipe&, const Recipe&) = default;

  /// Peak, first (with warm-up) and last learning rate at the recipe's global batch.
  double peak_learning_rate() const;
  double first_learning_rate() const;
  double last_learning_rate() const;

  /// The recipe as a complete TOML document that parses back to the same recipe; what a run folder and a checkpoint
  /// keep.
  std::string to_toml() const;

  /// Reads `file`, applies `overrides` ("table.key=value", value in TOML syntax; what is not TOML is taken as a string)
  /// and validates. Throws IoError if the file cannot be read.
  static Recipe load(const std::string& file, const std::vector<std::string>& overrides = {});
  /// The same from text; `origin` stands for the file in messages.
  static Recipe parse(std::string_view text, const std::string& origin, const std::vector<std::string>& overrides = {});
};

std::string_view to_string(Precision precision);
std::string_view to_string(FineOrderKey order);
std::string_view to_string(StemFilters sampling);
std::string_view to_string(Resampling resampling);
std::string_view to_string(NotFinite policy);

}  // namespace qm
