"""BiSeNet: the shapes it gives, and the public checkpoints it takes."""

import math

import pytest

torch = pytest.importorskip("torch")

from models.architectures.bisenet import BiSeNet, load_public_checkpoint  # noqa: E402

# One parameter of every kind of layer, with the shapes of a public 19-class Cityscapes checkpoint.
DOCUMENTED = {
    "cp.resnet.conv1.weight": (64, 3, 7, 7),
    "cp.resnet.bn1.running_mean": (64,),
    "cp.resnet.layer1.0.conv1.weight": (64, 64, 3, 3),
    "cp.resnet.layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "cp.resnet.layer2.0.downsample.1.weight": (128,),
    "cp.resnet.layer4.1.bn2.num_batches_tracked": (),
    "cp.arm16.conv.conv.weight": (128, 256, 3, 3),
    "cp.arm16.conv.bn.weight": (128,),
    "cp.arm16.conv_atten.weight": (128, 128, 1, 1),
    "cp.arm16.bn_atten.weight": (128,),
    "cp.arm32.conv.conv.weight": (128, 512, 3, 3),
    "cp.conv_head32.conv.weight": (128, 128, 3, 3),
    "cp.conv_head16.bn.bias": (128,),
    "cp.conv_avg.conv.weight": (128, 512, 1, 1),
    "sp.conv1.conv.weight": (64, 3, 7, 7),
    "sp.conv2.conv.weight": (64, 64, 3, 3),
    "sp.conv3.bn.running_var": (64,),
    "sp.conv_out.conv.weight": (128, 64, 1, 1),
    "ffm.convblk.conv.weight": (256, 256, 1, 1),
    "ffm.conv.weight": (256, 256, 1, 1),
    "ffm.bn.weight": (256,),
    "conv_out.conv.conv.weight": (256, 256, 3, 3),
    "conv_out.conv_out.weight": (19, 256, 1, 1),
    "conv_out.conv_out.bias": (19,),
    "conv_out16.conv.conv.weight": (64, 128, 3, 3),
    "conv_out16.conv_out.weight": (19, 64, 1, 1),
    "conv_out32.conv_out.bias": (19,),
}
BLOCKS = {
    "cp.resnet", "cp.arm16", "cp.arm32", "cp.conv_head32", "cp.conv_head16", "cp.conv_avg",
    "sp.conv1", "sp.conv2", "sp.conv3", "sp.conv_out",
    "ffm.convblk", "ffm.conv", "ffm.bn",
    "conv_out.conv", "conv_out.conv_out",
    "conv_out16.conv", "conv_out16.conv_out",
    "conv_out32.conv", "conv_out32.conv_out",
}  # fmt: skip


@pytest.fixture(scope="module")
def public_state():
    torch.manual_seed(0)
    return BiSeNet(num_classes=19).state_dict()


def test_parameters_have_the_documented_names_and_shapes(public_state):
    assert {name: tuple(public_state[name].shape) for name in DOCUMENTED} == DOCUMENTED
    assert {".".join(name.split(".")[:2]) for name in public_state} == BLOCKS


def test_size_is_the_published_one(public_state):
    inference = sum(
        tensor.numel()
        for name, tensor in BiSeNet(19).named_parameters()
        if not name.startswith(("conv_out16", "conv_out32"))
    )
    assert inference == pytest.approx(13.3e6, rel=0.01)


@pytest.mark.parametrize("size", [(64, 96), (90, 130)], ids=["multiple of 32", "any size"])
def test_answer_has_the_size_of_the_input(size):
    model = BiSeNet(5, widths=(8, 8, 16, 16), spatial_channels=8)
    images = torch.rand(2, 3, *size)
    heads = model.train()(images)
    smaller = [(2, 5, math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in (8, 16)]
    assert [tuple(head.shape) for head in heads] == [(2, 5, *size), *smaller]
    assert tuple(model.eval()(images).shape) == (2, 5, *size)


def test_every_parameter_learns():
    model = BiSeNet(3, widths=(8, 8, 16, 16), spatial_channels=8).train()
    sum(head.square().mean() for head in model(torch.rand(2, 3, 64, 64))).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_public_checkpoint_loads_with_and_without_auxiliary_heads(tmp_path, public_state):
    without = {
        name: tensor for name, tensor in public_state.items() if not name.startswith(("conv_out16", "conv_out32"))
    }
    parallel = {f"module.{name}": tensor for name, tensor in public_state.items()}
    images = torch.rand(1, 3, 64, 64)
    answers = []
    for index, state in enumerate((public_state, without, parallel)):
        torch.save(state, tmp_path / f"{index}.pth")
        model = load_public_checkpoint(tmp_path / f"{index}.pth")
        assert not model.training
        answers.append(model(images))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_checkpoint_that_does_not_fit_says_where(tmp_path, public_state):
    def message(state):
        torch.save(state, tmp_path / "wrong.pth")
        with pytest.raises(ValueError) as caught:
            load_public_checkpoint(tmp_path / "wrong.pth")
        return str(caught.value)

    kept = dict(public_state)
    kept.pop("ffm.conv.weight")
    assert "missing keys: ffm.conv.weight" in message(kept)
    assert "unexpected keys: ffm.conv1.weight" in message(public_state | {"ffm.conv1.weight": torch.zeros(1)})
    misshapen = public_state | {"sp.conv1.conv.weight": torch.zeros(32, 3, 7, 7)}
    assert "sp.conv1.conv.weight (32, 3, 7, 7) instead of (64, 3, 7, 7)" in message(misshapen)
    assert "found backbone.weight" in message({"backbone.weight": torch.zeros(1)})
