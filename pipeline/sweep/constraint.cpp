#include "sweep/constraint.h"

#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "config/number_text.h"
#include "core/error.h"

namespace moextract::sweep {
using nlohmann::json;

/// An operator with its operands, a key, or a value.
struct Constraint::Node {
  std::string op;  ///< "==", "and", "-", ... or "key", "value"
  std::string key;
  json value;
  std::vector<std::shared_ptr<const Node>> operands;
};

namespace {

using NodePointer = std::shared_ptr<const Constraint::Node>;

NodePointer make(std::string op, std::vector<NodePointer> operands) {
  auto node = std::make_shared<Constraint::Node>();
  node->op = std::move(op);
  node->operands = std::move(operands);
  return node;
}

/// Both keep recursion, in reading and in evaluating, from running out of stack.
constexpr std::size_t kLongest = 4096;
constexpr int kDeepest = 64;

class Parser {
 public:
  Parser(const std::string& text, const std::string& prefix, const std::function<void(const std::string&)>& check_key)
      : text_(text), prefix_(prefix), check_key_(check_key) {
    if (text.size() > kLongest) {
      fail(ExitCode::config, "{}a condition of {} characters; at most {} are read: split it into several", prefix,
           text.size(), kLongest);
    }
    next();
  }

  NodePointer whole() {
    NodePointer node = any_of();
    if (!token_.empty()) wrong("expected 'and', 'or' or the end");
    return node;
  }

 private:
  NodePointer any_of() {
    NodePointer node = all_of();
    while (take("or")) node = make("or", {node, all_of()});
    return node;
  }
  NodePointer all_of() {
    NodePointer node = negation();
    while (take("and")) node = make("and", {node, negation()});
    return node;
  }
  NodePointer negation() {
    const Level level(*this);
    return take("not") ? make("not", {negation()}) : comparison();
  }
  NodePointer comparison() {
    NodePointer left = sum();
    for (const char* op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (take(op)) return make(op, {left, sum()});
    }
    return left;
  }
  NodePointer sum() {
    NodePointer left = product();
    for (;;) {
      if (take("+")) {
        left = make("+", {left, product()});
      } else if (take("-")) {
        left = make("-", {left, product()});
      } else {
        return left;
      }
    }
  }
  NodePointer product() {
    NodePointer left = operand();
    for (;;) {
      if (take("*")) {
        left = make("*", {left, operand()});
      } else if (take("/")) {
        left = make("/", {left, operand()});
      } else {
        return left;
      }
    }
  }
  NodePointer operand() {
    const Level level(*this);
    if (take("(")) {
      NodePointer inner = any_of();
      if (!take(")")) wrong("expected ')'");
      return inner;
    }
    if (take("-")) return make("negative", {operand()});
    auto node = std::make_shared<Constraint::Node>();
    node->op = "value";
    if (kind_ == Kind::quoted) {
      node->value = token_;
    } else if (kind_ == Kind::number) {
      const std::optional<double> value = config::parse_number(token_);
      if (!value) wrong("not a number");
      node->value = *value;
    } else if (kind_ == Kind::word) {
      if (token_ == "true" || token_ == "false") {
        node->value = token_ == "true";
      } else if (token_ == "and" || token_ == "or" || token_ == "not") {
        wrong("expected a key or a value");
      } else if (token_.find('.') != std::string::npos) {
        check_key_(token_);
        node->op = "key";
        node->key = token_;
      } else if (token_ != "null") {
        node->value = token_;
      }
    } else {
      wrong("expected a key or a value");
    }
    next();
    return node;
  }

  bool take(std::string_view wanted) {
    if (kind_ == Kind::quoted || token_ != wanted) return false;
    next();
    return true;
  }

  void next() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    start_ = at_;
    token_.clear();
    kind_ = Kind::symbol;
    if (at_ == text_.size()) return;
    const char first = text_[at_];
    const auto grow = [&](auto&& belongs) {
      while (at_ < text_.size() && belongs(text_[at_])) token_ += text_[at_++];
    };
    if (first == '"' || first == '\'') {
      kind_ = Kind::quoted;
      ++at_;
      grow([&](char c) { return c != first; });
      if (at_ == text_.size()) wrong("a quote is not closed");
      ++at_;
    } else if (std::isdigit(static_cast<unsigned char>(first)) || first == '.') {
      kind_ = Kind::number;
      grow([&](char c) {
        const bool exponent = !token_.empty() && (token_.back() == 'e' || token_.back() == 'E');
        return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
               (exponent && (c == '-' || c == '+'));
      });
    } else if (std::isalpha(static_cast<unsigned char>(first)) || first == '_') {
      kind_ = Kind::word;
      grow([](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_'; });
    } else {
      token_ = first;
      ++at_;
      const bool two = at_ < text_.size() && text_[at_] == '=';
      if (two && std::string_view("=!<>").find(first) != std::string_view::npos) token_ += text_[at_++];
      if (token_ == "=") wrong("write == for equal");
      if (token_ == "!" || std::string_view("=!<>+-*/()").find(first) == std::string_view::npos) wrong("unexpected");
    }
  }

  [[noreturn]] void wrong(const char* problem) const {
    fail(ExitCode::config, "{}'{}', at '{}': {}", prefix_, text_, text_.substr(start_), problem);
  }

  /// One level of parentheses, negations and signs.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser.depth_ > 2 * kDeepest) parser.wrong("nested too deeply");
    }
    ~Level() { --parser_.depth_; }

   private:
    Parser& parser_;
  };

  enum class Kind { symbol, word, number, quoted };
  const std::string& text_;
  const std::string& prefix_;
  const std::function<void(const std::string&)>& check_key_;
  std::size_t at_ = 0, start_ = 0;
  int depth_ = 0;
  Kind kind_ = Kind::symbol;
  std::string token_;
};

json value_of(const json& values, const std::string& key) {
  const json* place = &values;
  for (std::size_t from = 0; from <= key.size();) {
    const std::size_t dot = std::min(key.find('.', from), key.size());
    const auto found = place->find(key.substr(from, dot - from));
    MOEX_ASSERT(found != place->end(), "no value of " + key);
    place = &*found;
    from = dot + 1;
  }
  return *place;
}

class Evaluation {
 public:
  Evaluation(const json& values, const std::string& place) : values_(values), place_(place) {}

  bool truth(const Constraint::Node& node) const {
    const json value = result(node);
    if (!value.is_boolean()) {
      fail(ExitCode::config, "{}: {} is neither true nor false; a constraint compares something", place_, value.dump());
    }
    return value.get<bool>();
  }

 private:
  json result(const Constraint::Node& node) const {
    if (node.op == "value") return node.value;
    if (node.op == "key") return value_of(values_, node.key);
    if (node.op == "and") return truth(*node.operands[0]) && truth(*node.operands[1]);
    if (node.op == "or") return truth(*node.operands[0]) || truth(*node.operands[1]);
    if (node.op == "not") return !truth(*node.operands[0]);
    const json left = result(*node.operands[0]);
    if (node.op == "negative") return -number(left);
    const json right = result(*node.operands[1]);
    if (node.op == "+") return number(left) + number(right);
    if (node.op == "-") return number(left) - number(right);
    if (node.op == "*") return number(left) * number(right);
    if (node.op == "/") return number(left) / number(right);
    return compared(node.op, left, right);
  }

  double number(const json& value) const {
    if (!value.is_number())
      fail(ExitCode::config, "{}: {} is no number, so nothing can be calculated with it", place_, value.dump());
    return value.get<double>();
  }

  bool compared(const std::string& op, const json& left, const json& right) const {
    if (left.is_null() || right.is_null()) {
      if (op == "==") return left.is_null() && right.is_null();
      return op == "!=" && left.is_null() != right.is_null();
    }
    int order = 0;
    if (left.is_number() && right.is_number()) {
      const double a = left.get<double>(), b = right.get<double>();
      order = a < b ? -1 : (a > b ? 1 : 0);
    } else if ((left.is_string() && right.is_string()) || (left.is_boolean() && right.is_boolean())) {
      if (op != "==" && op != "!=") {
        fail(ExitCode::config, "{}: {} and {} have no order; compare them by == or !=", place_, left.dump(),
             right.dump());
      }
      order = left == right ? 0 : 1;
    } else {
      fail(ExitCode::config, "{}: {} and {} are of different kinds and cannot be compared", place_, left.dump(),
           right.dump());
    }
    if (op == "==") return order == 0;
    if (op == "!=") return order != 0;
    if (op == "<") return order < 0;
    if (op == "<=") return order <= 0;
    return op == ">" ? order > 0 : order >= 0;
  }

  const json& values_;
  const std::string& place_;
};

}  // namespace

Constraint::Constraint(std::string text, const std::string& prefix,
                       const std::function<void(const std::string&)>& check_key)
    : text_(std::move(text)), prefix_(prefix) {
  root_ = Parser(text_, prefix_, check_key).whole();
}

bool Constraint::holds(const json& values) const {
  const std::string place = prefix_ + "'" + text_ + "'";
  return Evaluation(values, place).truth(*root_);
}

}  // namespace moextract::sweep
