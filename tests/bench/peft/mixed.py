"""Mixed-batch inference of transformers + PEFT: each sequence of a batch through its own adapter (adapter_names).

Reads one JSON line {"config": ..., "adapters": n, "rank": r, "prompt": p, "generated": g, "threads": t}, builds a model
of that shape with random weights (speed does not depend on them), then answers each further line with
{"seconds": s}: one generation of n sequences, prefill included.
"""
import json, sys, time
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

work = json.loads(sys.stdin.readline())
torch.set_num_threads(work["threads"])
torch.manual_seed(0)
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = LoraConfig(r=work["rank"], lora_alpha=work["rank"], target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
names = [f"a{i}" for i in range(work["adapters"])]
model = get_peft_model(LlamaForCausalLM(LlamaConfig(**work["config"])).eval(), lora, adapter_name=names[0])
for name in names[1:]:
    model.add_adapter(name, lora)
model.eval()


def generate(tokens):
    ids = torch.randint(10, work["config"]["vocab_size"], (len(names), work["prompt"]))
    began = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            adapter_names=names,
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
        )
    assert out.shape[1] == work["prompt"] + tokens
    return time.perf_counter() - began


generate(2)
print(json.dumps({"ready": True}), flush=True)
for _ in sys.stdin:
    print(json.dumps({"seconds": generate(work["generated"])}), flush=True)
