#include <gtest/gtest.h>

#include <vector>

#include "dist/communicator.h"
#include "kernels/base/error.h"

namespace {

using qm::Tensor;

TEST(dist, a_group_of_one_gets_back_what_it_gave) {
  const auto comm = qm::make_single_communicator();
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->size(), 1);
  EXPECT_EQ(comm->local_rank(), 0);
  const std::vector<float> values{1, -2, 3};
  const Tensor tensor = Tensor::from(values, {3});
  comm->all_reduce_sum(tensor);
  comm->start_all_reduce_sum(tensor)->wait();
  comm->broadcast(tensor, 0);
  EXPECT_EQ(tensor.to_vector<float>(), values);
  std::vector<char> bytes{'a', 'b'};
  comm->broadcast_bytes(bytes, 0);
  EXPECT_EQ(bytes, (std::vector<char>{'a', 'b'}));
  EXPECT_EQ(comm->all_gather_bytes("abc"), std::vector<std::string>{"abc"});
  EXPECT_EQ(comm->all_reduce_max(-3.5), -3.5);
  comm->barrier();
}

TEST(dist, a_group_of_one_refuses_what_several_would) {
  const auto comm = qm::make_single_communicator();
  std::vector<char> bytes;
  EXPECT_THROW(comm->broadcast_bytes(bytes, 1), qm::CommError);
  EXPECT_THROW(comm->broadcast(Tensor::zeros({1}, qm::DType::kFloat32), 1), qm::CommError);
  EXPECT_THROW(comm->all_reduce_sum(Tensor::zeros({1}, qm::DType::kBFloat16)), qm::CommError);
}

}  // namespace
