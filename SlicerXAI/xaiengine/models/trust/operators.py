"""The operators that the graph of an untrusted model may call: computing with tensors and numbers, nothing else.

A list of what is allowed, not of what is refused: an operator that a later version of PyTorch brings is refused
until somebody has looked at it. What reads or writes files, prints, shares memory or starts tasks is left out.
"""

from __future__ import annotations

ATEN = frozenset(
    """
    __and__ __contains__ __derive_index __getitem__ __iand__ __interpolate __ior__ __is__ __isnot__ __lshift__ __not__
    __or__ __range_length __round_to_zero_floordiv __rshift__ __upsample __upsample_bilinear __upsample_nearest __xor__
    reverse reversed _upsample_lanczos2d_aa
    Bool Delete Float FloatImplicit Generator Int IntImplicit ScalarImplicit Size _adaptive_avg_pool2d
    _adaptive_avg_pool3d _assert_async _assert_scalar _assert_tensor_metadata _cast_Float _cast_Long
    _cdist_forward _conj _convolution _convolution_mode _fft_c2c _fft_c2r _fft_r2c _functional_assert_async
    _functional_assert_scalar _grad_sum_to_size _index_put_impl_ _infer_size _is_all_true _linalg_det
    _linalg_eigh _linalg_slogdet _linalg_solve_ex _linalg_svd _local_scalar_dense _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    _native_multi_head_attention _no_grad_fill_ _no_grad_zero_ _pad_circular _pad_enum _prelu_kernel
    _reshape_alias _safe_softmax _scaled_dot_product_attention_math _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu _set_item _shape_as_tensor
    _size_if_not_equal _softmax _stack _to_copy _transform_bias_rescale_qkv _transformer_encoder_layer_fwd
    _trilinear _unique2 _unsafe_index _unsafe_index_put _unsafe_view _unwrap_optional _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    _version _weight_norm _weight_norm_interface abs abs_ absolute absolute_ acos acos_ acosh acosh_
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d add add_ addbmm addbmm_ addcdiv addcdiv_ addcmul addcmul_ addmm addmm_ addmv addmv_ addr
    addr_ adjoint affine_grid_generator alias all allclose alpha_dropout alpha_dropout_ amax amin aminmax angle
    any append arange arccos arccos_ arccosh arccosh_ arcsin arcsin_ arcsinh arcsinh_ arctan arctan2 arctan2_
    arctan_ arctanh arctanh_ argmax argmin argsort argwhere as_tensor asin asin_ asinh asinh_ atan atan2 atan2_
    atan_ atanh atanh_ atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm baddbmm_
    bartlett_window batch_norm bernoulli bernoulli_ bilinear binary_cross_entropy
    binary_cross_entropy_with_logits bincount bitwise_and bitwise_and_ bitwise_left_shift bitwise_left_shift_
    bitwise_not bitwise_not_ bitwise_or bitwise_or_ bitwise_right_shift bitwise_right_shift_ bitwise_xor
    bitwise_xor_ blackman_window block_diag bmm broadcast_shapes broadcast_tensors broadcast_to bucketize
    cartesian_prod cat cdist ceil ceil_ celu celu_ chalf channel_shuffle cholesky cholesky_inverse
    cholesky_solve chunk clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clear clip clip_ clone coalesce
    col2im column_stack combinations complex concat concatenate conj conj_physical conj_physical_
    constant_pad_nd contiguous conv1d conv2d conv3d conv_depthwise3d conv_tbc conv_transpose1d conv_transpose2d
    conv_transpose3d convolution convolution_overrideable copy copy_ copysign copysign_ corrcoef cos cos_ cosh
    cosh_ cosine_embedding_loss cosine_similarity count count_nonzero cov cpu cross cross_entropy_loss ctc_loss
    cummax cummin cumprod cumprod_ cumsum cumsum_ cumulative_trapezoid deg2rad deg2rad_ det detach detach_
    device diag diag_embed diagflat diagonal diagonal_scatter dict diff dim dist div div_ divide divmod dot
    dropout dropout_ dsplit dstack einsum element_size elu elu_ embedding embedding_bag empty empty_like
    empty_permuted empty_strided endswith eq equal erf erf_ erfc erfc_ erfinv exp exp2 exp2_ exp_ expand
    expand_as expm1 expm1_ exponential extend eye fabs factorial feature_dropout feature_dropout_ fft_fft
    fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft fft_irfft2
    fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn fill fill_ find fix fix_ flatten flatten_dense_tensors
    flip fliplr flipud float_power float_power_ floor floor_ floor_divide floor_divide_ floordiv fmax fmin fmod
    fmod_ format frac frac_ fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like
    gamma gather gcd gcd_ ge ge_ gelu gelu_ ger get get_device glu gradient greater greater_ greater_equal
    greater_equal_ grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt gt_ hamming_window
    hann_window hardshrink hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ has_torch_function
    heaviside heaviside_ hinge_embedding_loss histc hsplit hstack huber_loss hypot hypot_ i0 i0_ im2col imag
    index index_add index_add_ index_copy_ index_fill index_fill_ index_put index_put_ index_select inner insert
    instance_norm int_repr inverse is_autocast_cpu_enabled is_autocast_enabled is_coalesced is_conj
    is_contiguous is_distributed is_floating_point is_grad_enabled is_inference is_neg
    is_non_overlapping_and_dense is_nonzero is_owner is_pinned is_same_size is_scripting is_set_to is_signed
    isclose isfinite isin isinf isinstance isnan isneginf isposinf isreal istft item items join kaiser_window
    keys kl_div kron kthvalue l1_loss layer_norm lcm lcm_ ldexp ldexp_ le le_ leaky_relu leaky_relu_ len lerp
    lerp_ less less_ less_equal less_equal_ lgamma lift_fresh lift_fresh_copy linalg__powsum linalg_cholesky
    linalg_cholesky_ex linalg_cross linalg_det linalg_diagonal linalg_eig linalg_eigvals
    linalg_householder_product linalg_inv linalg_inv_ex linalg_lu linalg_lu_factor linalg_lu_factor_ex
    linalg_lu_solve linalg_matmul linalg_matrix_exp linalg_matrix_norm linalg_matrix_power linalg_matrix_rank
    linalg_multi_dot linalg_norm linalg_pinv linalg_slogdet linalg_solve linalg_solve_ex linalg_solve_triangular
    linalg_tensorinv linalg_tensorsolve linalg_vander linalg_vecdot linalg_vector_norm linear linspace list
    local_value log log10 log10_ log1p log1p_ log2 log2_ log_ log_sigmoid log_sigmoid_forward log_softmax
    logaddexp logaddexp2 logcumsumexp logdet logical_and logical_and_ logical_not logical_not_ logical_or
    logical_or_ logical_xor logical_xor_ logit logit_ logspace logsumexp lower lstm lstm_cell lt lt_ lu_solve
    lu_unpack mH mT margin_ranking_loss masked_fill masked_fill_ masked_scatter masked_scatter_ masked_select
    mathremainder matmul matrix_H matrix_exp matrix_power max max_pool1d max_pool1d_with_indices max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum mean median
    meshgrid min minimum mish mish_ mm mode modf moveaxis movedim mse_loss msort mul mul_ multi_margin_loss
    multilabel_margin_loss multilabel_margin_loss_forward multiply multiply_ mv mvlgamma nan_to_num nan_to_num_
    nanmean nanmedian nansum narrow native_batch_norm native_dropout native_group_norm native_layer_norm
    native_norm ne ne_ neg neg_ negative negative_ nested_to_padded_tensor new_empty new_empty_strided new_full
    new_ones new_zeros nextafter nextafter_ nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward nll_loss_nd
    nonzero nonzero_static norm norm_except_dim normal normal_ not_equal not_equal_ numel numpy_T one_hot ones
    ones_like outer owner owner_name pad pad_sequence pairwise_distance permute pinverse pixel_shuffle
    pixel_unshuffle polar polygamma polygamma_ pop positive pow pow_ prelu prod put put_ qr quantile rad2deg
    rad2deg_ rand rand_like randn randn_like random_ range ravel real reciprocal reciprocal_ reflection_pad1d
    reflection_pad2d reflection_pad3d relu relu6 relu6_ relu_ remainder remainder_ renorm renorm_ repeat
    repeat_interleave replace replication_pad1d replication_pad2d replication_pad3d requires_grad_ reshape
    reshape_as resolve_conj resolve_neg rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round
    round_ row_stack rrelu rrelu_ rrelu_with_noise rrelu_with_noise_ rrelu_with_noise_functional rsqrt rsqrt_
    rsub scalar_tensor scaled_dot_product_attention scatter scatter_ scatter_add scatter_add_ scatter_reduce
    searchsorted select select_scatter selu selu_ set setdefault sgn sgn_ sigmoid sigmoid_ sign sign_ signbit
    silu silu_ sin sin_ sinc sinh sinh_ size slice slice_copy slice_inverse slice_scatter slogdet smooth_l1_loss
    soft_margin_loss softmax softplus softshrink sort sorted special_entr special_erf special_erfc special_erfcx
    special_erfinv special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln
    special_i0 special_i0e special_i1 special_i1e special_log1p special_log_ndtr special_log_softmax
    special_logit special_logsumexp special_ndtr special_ndtri special_psi special_round special_sinc
    special_softmax special_xlog1py special_xlogy split split_with_sizes sqrt sqrt_ square square_ squeeze
    squeeze_ stack startswith std std_mean str stride strip sub sub_ subtract subtract_ sum sum_to_size svd
    swapaxes swapaxes_ swapdims swapdims_ sym_is_contiguous sym_numel sym_size sym_stride t t_ take
    take_along_dim tan tan_ tanh tanh_ tensor tensor_split tensordot threshold threshold_ tile to topk trace
    transpose transpose_ trapezoid trapz triangular_solve tril tril_ tril_indices triplet_margin_loss triu triu_
    triu_indices true_divide true_divide_ trunc trunc_ type_as unbind unflatten unflatten_dense_tensors unfold
    uniform_ unique_consecutive unique_dim unique_dim_consecutive unsafe_chunk unsafe_split
    unsafe_split_with_sizes unsqueeze unsqueeze_ update upper upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d values
    vander var var_mean vdot view view_as view_as_complex view_as_real view_copy vsplit vstack warn where xlogy
    xlogy_ zero zero_ zeros zeros_like
    """.split()
)
"""Names of ``torch.ops.aten``, without their overloads."""

PRIM = frozenset(
    """
    NumToTensor RaiseException TupleIndex TupleUnpack Uninitialized abs data device dtype is_cpu is_cuda is_meta is_mps
    is_quantized is_sparse is_xla is_xpu itemsize layout max min name nbytes rangelist requires_grad tolist type
    unchecked_cast unchecked_unwrap_optional is_nested is_mkldnn ConstantChunk ModuleContainerIndex id
    """.split()
)
"""Names of the operators that TorchScript itself is made of."""

TORCHVISION = frozenset(
    "nms roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d interpolate_bilinear2d_aa".split()
)


def is_allowed(namespace: str, name: str) -> bool:
    """Whether an operator (without its overload) is on the list of its namespace."""
    return name in {"aten": ATEN, "prim": PRIM, "torchvision": TORCHVISION}.get(namespace, ())
