// A small independent checker of HTML: tags balance, attributes are quoted, text is escaped, nothing outside is loaded.
#pragma once

#include <cctype>
#include <set>
#include <string>
#include <vector>

namespace moextract {

/// The first fault found, or "".
inline std::string html_fault(const std::string& html) {
  static const std::set<std::string> kVoid{"meta", "br", "hr", "img", "link", "input"};
  static const std::set<std::string> kEntities{"amp", "lt", "gt", "quot", "#39", "nbsp"};
  std::vector<std::string> open;
  std::set<std::string> ids;
  std::size_t at = 0;
  const auto near = [&](std::size_t where) { return " near: " + html.substr(where, 80); };
  while (at < html.size()) {
    const char c = html[at];
    if (c == '&') {
      const std::size_t end = html.find(';', at);
      if (end == std::string::npos || !kEntities.count(html.substr(at + 1, end - at - 1))) return "bare &" + near(at);
      at = end + 1;
      continue;
    }
    if (c == '>') return "bare >" + near(at);
    if (c != '<') {
      ++at;
      continue;
    }
    const std::size_t tag_start = at++;
    if (html[at] == '!') {
      at = html.find('>', at) + 1;
      continue;
    }
    const bool closing = html[at] == '/';
    if (closing) ++at;
    std::string name;
    while (at < html.size() && (std::isalnum(static_cast<unsigned char>(html[at])) || html[at] == '-'))
      name += html[at++];
    if (name.empty()) return "bare <" + near(tag_start);
    bool self_closed = false;
    while (at < html.size() && html[at] != '>') {
      if (html[at] == ' ' || html[at] == '\n') {
        ++at;
      } else if (html[at] == '/' && html[at + 1] == '>') {
        self_closed = true;
        ++at;
      } else {
        std::string attribute;
        while (std::isalnum(static_cast<unsigned char>(html[at])) || html[at] == '-') attribute += html[at++];
        if (attribute.empty()) return "broken attribute" + near(tag_start);
        if (attribute.rfind("on", 0) == 0) return "event attribute" + near(tag_start);
        if (html[at] != '=') continue;
        if (html[++at] != '"') return "unquoted attribute" + near(tag_start);
        const std::size_t end = html.find('"', at + 1);
        if (end == std::string::npos) return "open quote" + near(tag_start);
        const std::string value = html.substr(at + 1, end - at - 1);
        if (value.find('<') != std::string::npos || value.find('>') != std::string::npos)
          return "unescaped" + near(tag_start);
        if (attribute == "src" || attribute == "href") return "loads something" + near(tag_start);
        if (attribute == "id" && !ids.insert(value).second) return "id twice" + near(tag_start);
        at = end + 1;
      }
    }
    if (at >= html.size()) return "open tag" + near(tag_start);
    ++at;
    if (closing) {
      if (open.empty() || open.back() != name) {
        return "</" + name + "> closes <" + (open.empty() ? "nothing" : open.back()) + ">" + near(tag_start);
      }
      open.pop_back();
    } else if (!self_closed && !kVoid.count(name)) {
      open.push_back(name);
      if (name == "style" || name == "script") {  // their content is no HTML
        const std::size_t end = html.find("</" + name, at);
        if (end == std::string::npos) return "open " + name;
        const std::string content = html.substr(at, end - at);
        if (content.find("url(") != std::string::npos || content.find("@import") != std::string::npos ||
            content.find("://") != std::string::npos) {
          return name + " loads something";
        }
        at = end;
      }
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is never closed";
}

}  // namespace moextract
