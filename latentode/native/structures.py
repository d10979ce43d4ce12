"""The structures of kernels/api.h, for ctypes."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_double, c_int64, c_void_p

_I, _D, _P = c_int64, c_double, c_void_p

MAX_LAYERS, MAX_STAGES, MAX_DEGREE = 16, 16, 8
ACTIVATIONS = {"tanh": 0, "softplus": 1, "elu": 2, "silu": 3, "relu": 4}


class FieldStructure(Structure):
    _fields_ = [
        ("dim", _I),
        ("n_inputs", _I),
        ("n_layers", _I),
        ("time_input", _I),
        ("activation", _I),
        ("widths", POINTER(_I)),
        ("weights", POINTER(_P)),
        ("biases", POINTER(_P)),
        ("speed", _P),
    ]


class MethodStructure(Structure):
    _fields_ = [
        ("stages", _I),
        ("degree", _I),
        ("nodes", POINTER(_D)),
        ("weights", POINTER(_D)),
        ("error", POINTER(_D)),
        ("interpolant", POINTER(_D)),
    ]


class ControllerStructure(Structure):
    _fields_ = [
        ("adaptive", _I),
        ("rtol", _D),
        ("atol", _D),
        ("order", _D),
        ("alpha", _D),
        ("beta", _D),
        ("gamma", _D),
        ("safety", _D),
        ("smallest_factor", _D),
        ("largest_factor", _D),
        ("first_step", _D),
        ("min_step", _D),
        ("max_step", _D),
        ("step_size", _D),
        ("max_steps", _I),
    ]


class SolveStructure(Structure):
    _fields_ = [
        ("double_precision", _I),
        ("n_threads", _I),
        ("n", _I),
        ("n_times", _I),
        ("n_still", _I),
        ("field", FieldStructure),
        ("method", MethodStructure),
        ("controller", ControllerStructure),
        ("y0", _P),
        ("y0_stride", _I),
        ("t0", _P),
        ("t0_stride", _I),
        ("times", _P),
        ("times_stride", _I),
        ("time_stride", _I),
        ("inputs", _P),
        ("inputs_stride", _I),
        ("y", _P),
        ("status", _P),
        ("n_steps", _P),
        ("n_accepted", _P),
        ("n_evals", _P),
        ("n_evals_backward", _P),
        ("t_reached", _P),
    ]


class CotangentsStructure(Structure):
    _fields_ = [
        ("of_y", _P),
        ("of_y0", _P),
        ("of_t0", _P),
        ("of_times", _P),
        ("of_inputs", _P),
        ("of_weights", POINTER(_P)),
        ("of_biases", POINTER(_P)),
        ("of_speed", _P),
    ]
