"""Published networks with a name: kind, description and address.

Sizes are estimates from the number of parameters, for planning. Downloads from the hub are verified against the SHA-256
in its metadata. OpenAI and NVIDIA publish no checksums: the SHA-256 of the first download is recorded beside the file,
and the file is verified against it afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

OPENAI = "https://openaipublic.blob.core.windows.net"
NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained"
HUB = "https://huggingface.co"

# Kinds of checkpoints: the format, and the function of the network.
KINDS = {
    "card": "a network of this project: safetensors with metadata and a JSON card",
    "diffusers": "a diffusers repository: UNet2DModel with a DDPM, DDIM, EDM or consistency scheduler",
    "edm": "NVlabs/edm: SongUNet or DhariwalUNet under EDMPrecond",
    "iddpm": "eps-network of improved-diffusion or guided-diffusion",
    "cm-edm": "EDM denoiser of consistency_models",
    "cm-consistency": "consistency model of consistency_models",
    "jcm-edm": "EDM denoiser of consistency_models_cifar10 (flax)",
    "jcm-consistency": "consistency model of consistency_models_cifar10 (flax)",
}


@dataclass(frozen=True)
class Known:
    """A published network.

    Attributes:
        kind: a key of KINDS.
        about: short description.
        url: of the file; empty for a repository.
        repository, revision: on the Hugging Face hub, `organisation/name`.
        sha256: of the file, if published.
        megabytes: estimated size of the download.
    """

    kind: str
    about: str = ""
    url: str = ""
    repository: str = ""
    revision: str | None = None
    sha256: str | None = None
    megabytes: int | None = None


def jcm(kind: str, about: str, path: str) -> Known:
    return Known(kind, f"CIFAR-10, {about}", f"{OPENAI}/consistency/jcm_checkpoints/{path}", megabytes=JCM_MEGABYTES)


JCM_MEGABYTES = 902  # 56,395,651 float32 four times: parameters, their average, two moments of the optimiser

NETWORKS: dict[str, Known] = {
    "edm_cifar10_ema": jcm("jcm-edm", "EDM, the teacher of the consistency models", "edm_cifar10_ema"),
    "cd-l1": jcm("jcm-consistency", "distilled with L1", "cd-l1/checkpoints/checkpoint_80"),
    "cd-l2": jcm("jcm-consistency", "distilled with L2", "cd-l2/checkpoints/checkpoint_80"),
    "cd-lpips": jcm("jcm-consistency", "distilled with LPIPS", "cd-lpips/checkpoints/checkpoint_80"),
    "ct-lpips": jcm("jcm-consistency", "consistency training with LPIPS", "ct-lpips/checkpoints/checkpoint_74"),
    "checkpoint_120": Known(
        "jcm-consistency",
        "CIFAR-10, cd-lpips fine-tuned by Li et al. 2024 (Consistency Purification)",
        f"{HUB}/datasets/YiquanLi/Consistency_Purification/resolve/main/checkpoint_120",
        megabytes=JCM_MEGABYTES,
    ),
    "edm-cifar10-32x32-uncond-vp": Known(
        "edm", "CIFAR-10, EDM, DDPM++", f"{NVIDIA}/edm-cifar10-32x32-uncond-vp.pkl", megabytes=223
    ),
    "edm-cifar10-32x32-uncond-ve": Known(
        "edm", "CIFAR-10, EDM, NCSN++", f"{NVIDIA}/edm-cifar10-32x32-uncond-ve.pkl", megabytes=226
    ),
    "edm-cifar10-32x32-cond-vp": Known(
        "edm", "CIFAR-10, EDM, DDPM++, class-conditional", f"{NVIDIA}/edm-cifar10-32x32-cond-vp.pkl", megabytes=223
    ),
    "edm-cifar10-32x32-cond-ve": Known(
        "edm", "CIFAR-10, EDM, NCSN++, class-conditional", f"{NVIDIA}/edm-cifar10-32x32-cond-ve.pkl", megabytes=226
    ),
    "edm-imagenet-64x64-cond-adm": Known(
        "edm", "ImageNet-64, EDM, ADM, class-conditional", f"{NVIDIA}/edm-imagenet-64x64-cond-adm.pkl", megabytes=1184
    ),
    "cifar10_uncond_50M_500K": Known(
        "iddpm", "CIFAR-10, improved DDPM", f"{OPENAI}/diffusion/march-2021/cifar10_uncond_50M_500K.pt", megabytes=210
    ),
    "imagenet64_uncond_100M_1500K": Known(
        "iddpm",
        "ImageNet-64, improved DDPM",
        f"{OPENAI}/diffusion/march-2021/imagenet64_uncond_100M_1500K.pt",
        megabytes=484,
    ),
    "64x64_diffusion": Known(
        "iddpm",
        "ImageNet-64, guided-diffusion, class-conditional",
        f"{OPENAI}/diffusion/jul-2021/64x64_diffusion.pt",
        megabytes=1184,
    ),
    "edm_imagenet64_ema": Known(
        "cm-edm",
        "ImageNet-64, EDM, class-conditional",
        f"{OPENAI}/consistency/edm_imagenet64_ema.pt",
        megabytes=1184,
    ),
    **{
        name: Known(
            "cm-consistency",
            f"ImageNet-64, {about}, class-conditional",
            f"{OPENAI}/consistency/{name}.pt",
            megabytes=1184,
        )
        for name, about in (
            ("cd_imagenet64_l2", "distilled with L2"),
            ("cd_imagenet64_lpips", "distilled with LPIPS"),
            ("ct_imagenet64", "consistency training"),
        )
    },
    "google/ddpm-cifar10-32": Known("diffusers", "CIFAR-10, DDPM", repository="google/ddpm-cifar10-32", megabytes=143),
    **{
        f"openai/diffusers-{name}": Known(
            "diffusers",
            f"ImageNet-64, {name.partition('_')[0]}, class-conditional",
            repository=f"openai/diffusers-{name}",
            megabytes=1184,
        )
        for name in ("cd_imagenet64_l2", "cd_imagenet64_lpips", "ct_imagenet64")
    },
}
