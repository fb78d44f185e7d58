// Checks dashboards against Grafana's own types and LogQL against Grafana's own grammar.
//
// Reads {"dashboards": {name: object}, "logql": {name: text}} and writes {name: [complaint, ...]}.
// A dashboard becomes a TypeScript program in memory: each part of it as a literal that has to
// satisfy its type, so that a wrong value, a missing key and one too many are all found.

import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parser } from "@grafana/lezer-logql";
import ts from "typescript";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const RAW = "./node_modules/@grafana/schema/dist/types/raw";
const KINDS = {
  timeseries: "timeseries",
  stat: "stat",
  "state-timeline": "statetimeline",
  bargauge: "bargauge",
  table: "table",
  logs: "logs",
};
const WITHOUT_FIELDS = new Set(["stat", "bargauge", "logs"]);

// In JSON the members of an enum are their plain values.
const PRELUDE = `
type Plain<T> = T extends string ? \`\${T}\`
  : T extends readonly (infer E)[] ? Plain<E>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
import type { Dashboard, Panel, RowPanel, DashboardLink, VariableModel, AnnotationQuery }
  from "${RAW}/dashboard/x/types.gen";
import type { DataQuery } from "${RAW}/../common/common.gen";
${Object.entries(KINDS)
  .map(([, folder]) => `import type * as ${folder} from "${RAW}/composable/${folder}/panelcfg/x/types.gen";`)
  .join("\n")}
`;

function program(dashboard) {
  const lines = [PRELUDE];
  const satisfy = (value, type) =>
    lines.push(`void (${JSON.stringify(value)} satisfies Plain<${type}>);`);
  const { panels = [], templating = {}, annotations = {}, links = [], ...rest } = dashboard;
  satisfy(rest, "Dashboard");
  links.forEach((link) => satisfy(link, "DashboardLink"));
  (templating.list ?? []).forEach((variable) => satisfy(variable, "VariableModel"));
  for (const { expr, step, titleFormat, ...annotation } of annotations.list ?? []) {
    satisfy(annotation, "AnnotationQuery"); // what it asks is its data source's affair
  }
  for (const panel of panels) {
    if (panel.type === "row") {
      satisfy(panel, "RowPanel");
      continue;
    }
    const folder = KINDS[panel.type];
    if (folder === undefined) {
      lines.push(`panel of unknown kind ${panel.type};`);
      continue;
    }
    satisfy(panel, "Panel");
    satisfy(panel.options, `${folder}.Options`);
    if (!WITHOUT_FIELDS.has(folder)) {
      satisfy(panel.fieldConfig.defaults.custom, `Partial<${folder}.FieldConfig>`);
    }
    for (const { datasource, refId } of panel.targets) {
      satisfy({ datasource, refId }, "DataQuery");
    }
  }
  return lines.join("\n");
}

function typed(dashboards) {
  const files = new Map(
    Object.entries(dashboards).map(([name, board]) => [path.join(HERE, `${name}.ts`), program(board)]),
  );
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    types: [],
    lib: ["lib.es2022.d.ts"],
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.readFile = (name) => files.get(name) ?? readFile(name);
  host.getSourceFile = (name, ...more) =>
    files.has(name)
      ? ts.createSourceFile(name, files.get(name), ts.ScriptTarget.ES2022)
      : getSourceFile(name, ...more);
  const compiled = ts.createProgram([...files.keys()], options, host);
  return Object.fromEntries(
    [...files.keys()].map((file) => {
      const source = compiled.getSourceFile(file);
      const found = [
        ...compiled.getSyntacticDiagnostics(source),
        ...compiled.getSemanticDiagnostics(source),
      ];
      return [
        path.basename(file, ".ts"),
        found.map((each) => ts.flattenDiagnosticMessageText(each.messageText, "\n")),
      ];
    }),
  );
}

function parsed(queries) {
  return Object.fromEntries(
    Object.entries(queries).map(([name, text]) => {
      const complaints = [];
      parser.parse(text).iterate({
        enter: (node) => {
          if (node.type.isError) complaints.push(`not LogQL at ${node.from}: ${text}`);
        },
      });
      return [name, complaints];
    }),
  );
}

const { dashboards = {}, logql = {} } = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify({ dashboards: typed(dashboards), logql: parsed(logql) }));
