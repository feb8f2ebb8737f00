// The frame of the report page. Pictures take their colours from the classes below, so one page serves light, dark and
// print.
#include "report/html_page.h"

#include <fmt/format.h>

#include "report/html_text.h"

namespace moextract {
namespace {

constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--paper:#fdfdfb;--ink:#1d1e20;--soft:#5d6066;--faint:#8b8e94;--rule:#dedcd5;--ghost:#efeee9;
--dense:#4c4f55;--vbp:#b4540a;--moee:#1f5fae;--active:#c0392b;--on-bar:#ffffff;
--serif:"Iowan Old Style","Palatino Linotype",Palatino,Charter,"Source Serif 4",Georgia,"Liberation Serif",serif;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Liberation Sans",sans-serif}
@media (prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#e7e5e0;--soft:#aaadb3;--faint:#80848b;--rule:#34373c;
--ghost:#23262a;--dense:#b3b6bc;--vbp:#eb9a58;--moee:#76aaf0;--active:#f2827a;--on-bar:#10151c}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--faint:#666;--rule:#ccc;--ghost:#f0f0f0;
--dense:#4c4f55;--vbp:#b4540a;--moee:#1f5fae;--active:#c0392b;--on-bar:#fff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 var(--sans)}
main{max-width:1064px;margin:0 auto;padding:44px 28px 72px}
a{color:var(--moee)}
.kicker{margin:0 0 10px;color:var(--soft);font-size:14px}
h1{margin:0 0 18px;font:600 34px/1.18 var(--serif);letter-spacing:-.01em;text-wrap:balance;overflow-wrap:anywhere}
h2{margin:56px 0 8px;padding-top:18px;border-top:1px solid var(--rule);font:600 23px/1.25 var(--serif)}
h3{margin:28px 0 6px;font:600 16px/1.3 var(--sans)}
p{margin:0 0 12px;max-width:76ch;text-wrap:pretty}
.lead{font:400 21px/1.45 var(--serif);max-width:64ch;margin-bottom:16px}
.details{margin:0 0 12px;padding:0 0 0 18px;max-width:82ch;color:var(--soft)}
.details li{margin:3px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:0 28px;margin:24px 0 20px;padding:0}
.tile{border-top:2px solid var(--ink);padding:10px 0 8px}
.tile dt{color:var(--soft);font-size:14px}
.tile dd{margin:0;font:600 29px/1.25 var(--serif);font-variant-numeric:lining-nums tabular-nums;white-space:nowrap}
.tile dd.under{font:400 13.5px/1.35 var(--sans);color:var(--soft);white-space:normal}
.scroll{overflow-x:auto;margin:10px 0;-webkit-overflow-scrolling:touch}
.scroll:focus-visible{outline:2px solid var(--moee);outline-offset:3px}
table{border-collapse:collapse;width:100%;font-size:14.5px;line-height:1.35;font-variant-numeric:lining-nums tabular-nums}
thead th{white-space:normal;border-top:1.5px solid var(--ink);border-bottom:1px solid var(--ink);font-weight:600;vertical-align:bottom}
th,td{padding:6px 9px;text-align:left;white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{padding-left:2px}
th:last-child,td:last-child{padding-right:2px}
tbody th{font-weight:600}
tbody tr+tr>*{border-top:1px solid var(--rule)}
tbody{border-bottom:1.5px solid var(--ink)}
.num{text-align:right}
td.num small,.soft{color:var(--soft);font-size:13px}
td.num small{display:block}
.list{white-space:normal;display:inline-block;max-width:20ch}
.wrap{white-space:normal;overflow-wrap:anywhere;display:block;min-width:22ch}
.sortable th button{all:unset;cursor:pointer}
.sortable th button:hover{text-decoration:underline;text-underline-offset:3px}
.sortable th button:focus-visible{outline:2px solid var(--moee)}
.sortable th[aria-sort=ascending] button::after{content:" \2191"}
.sortable th[aria-sort=descending] button::after{content:" \2193"}
.dot{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.5em;border:2px solid currentColor;background:currentColor;vertical-align:-.02em}
.dot.hollow{background:transparent}
.dot.square{border-radius:1px;transform:rotate(45deg) scale(.85)}
figure{margin:18px 0 0;min-width:0}
figcaption{color:var(--soft);font-size:14px;line-height:1.45;max-width:86ch;margin-top:4px}
figcaption b{color:var(--ink)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:8px 36px}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:20px 26px;margin:12px 0 8px}
.panel-box{min-width:0;font-size:13px;color:var(--soft);line-height:1.4}
.panel-box b{color:var(--ink);font-size:13.5px}
svg{display:block;overflow:visible;font-family:var(--sans)}
.chart{width:100%;height:auto;max-width:480px}
.chart.wide{max-width:none;min-width:720px}
.chart.natural{width:auto;max-width:none}
.maps{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:12px 14px;margin:10px 0 14px}
.map{width:84px;height:84px;shape-rendering:crispEdges}
.panel,.spark{width:100%;height:auto;max-width:260px}
.times .chart{max-width:680px;min-width:460px}
svg text{fill:var(--ink);font-size:12px}
svg .tick{fill:var(--soft);font-size:11.5px}
svg .axis-title{fill:var(--soft);font-size:12.5px}
svg .strong{font-weight:600}
svg .num,svg .tick{font-variant-numeric:lining-nums tabular-nums}
svg .label{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
svg .inside{font-size:11px}
svg .on-bar{fill:var(--on-bar)}
.grid{stroke:var(--rule);stroke-width:1}
.axis{stroke:var(--faint);stroke-width:1}
.leader{stroke:var(--faint);stroke-width:.8}
.reference{stroke:var(--dense);stroke-width:1;stroke-dasharray:2 4}
.union{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:5 3}
.active{stroke:var(--active);stroke-width:2}
.ghost{fill:var(--ghost)}
.reused{fill:var(--ghost);stroke:var(--faint);stroke-width:1;stroke-dasharray:3 2}
.s-dense{color:var(--dense)}.s-vbp{color:var(--vbp)}.s-moee{color:var(--moee)}.s-other{color:var(--soft)}
.bar{fill:currentColor}
.mark{fill:currentColor;stroke:var(--paper);stroke-width:1.2}
.mark.hollow{fill:var(--paper);stroke:currentColor;stroke-width:2}
.error{stroke:currentColor;stroke-width:1;opacity:.6}
.link{stroke:currentColor;stroke-width:1.2;stroke-dasharray:1 3;stroke-linecap:round}
.curve{fill:none;stroke:currentColor;stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round}
.keys{font-size:13.5px;color:var(--soft);margin:4px 0}
.key{display:inline-block;white-space:nowrap;margin-right:18px}
.key svg{display:inline-block;width:26px;height:10px;vertical-align:0;margin-right:6px}
details{margin:10px 0}
summary{cursor:pointer;color:var(--moee)}
td details{margin:0}
.plain{font-size:14px}
.plain th{font-weight:400;color:var(--soft)}
code,.mono{font:13px/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
footer{margin-top:56px;padding-top:14px;border-top:1px solid var(--rule);color:var(--soft);font-size:13.5px}
@media (max-width:560px){tbody th{white-space:normal}main{padding:26px 16px 48px}h1{font-size:27px}.lead{font-size:19px}.tile dd{font-size:25px}
.tiles{grid-template-columns:1fr 1fr}.panels{grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:18px}}
@media print{body{font-size:10.5pt}main{max-width:none;padding:0}h2{margin-top:28px}h2,h3,summary{break-after:avoid}
figure,.panel-box,tr,.tile{break-inside:avoid}.scroll{overflow:visible}table{font-size:8.5pt}th,td{padding:3px 5px}
.pair{grid-template-columns:1fr 1fr}.chart.wide,.times .chart{min-width:0}.lead{font-size:14pt}h1{font-size:22pt}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
)css";

// Sorting by a click on a heading, and folded parts opened for printing. Nothing else needs JavaScript.
constexpr const char* kScript = R"js(
document.querySelectorAll("table.sortable").forEach(function(table){
  table.querySelectorAll("thead th").forEach(function(th,column){
    var button=document.createElement("button");button.type="button";
    while(th.firstChild)button.appendChild(th.firstChild);
    th.appendChild(button);
    button.addEventListener("click",function(){
      var up=th.getAttribute("aria-sort")!=="ascending",body=table.tBodies[0],rows=Array.from(body.rows);
      table.querySelectorAll("thead th").forEach(function(other){other.removeAttribute("aria-sort")});
      th.setAttribute("aria-sort",up?"ascending":"descending");
      rows.sort(function(a,b){
        var x=a.cells[column],y=b.cells[column],u=parseFloat(x.dataset.v),v=parseFloat(y.dataset.v);
        if(isNaN(u)!==isNaN(v))return isNaN(u)?1:-1;
        var order=isNaN(u)?x.textContent.localeCompare(y.textContent):u-v;
        return up?order:-order});
      rows.forEach(function(row){body.appendChild(row)})})})});
window.addEventListener("beforeprint",function(){
  document.querySelectorAll("details").forEach(function(d){d.open=true})});
)js";

}  // namespace

std::string html_page(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<main>\n{}</main>\n<script>{}</script>\n</body>\n</html>\n",
      escape_html(title), kStyle, body, kScript);
}

}  // namespace moextract
