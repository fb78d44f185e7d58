// Checks custom resources against the definitions of their operators.
//
// Reads {name: object} and writes {name: [complaint, ...]}. Each is asked twice: the validator made
// of the definition finds wrong values, and the types made of it find keys that it does not have,
// which a cluster would drop without a word.

import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PACKAGES = {
  "argoproj.io": "argo-rollouts",
  "external-secrets.io": "external-secrets",
  "gateway.networking.k8s.io": "gateway-api",
  "monitoring.coreos.com": "prometheus-operator",
};
const OPTIONS = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: [],
  lib: ["lib.es2022.d.ts"],
};

function moduleOf({ apiVersion, kind }) {
  const known = PACKAGES[apiVersion.split("/")[0]];
  return known && `@kubernetes-models/${known}/${apiVersion}/${kind}`;
}

async function values(resource) {
  const { [resource.kind]: Model } = await import(moduleOf(resource));
  try {
    new Model(resource).validate();
    return [];
  } catch (error) {
    return [error.message];
  }
}

function keys(resources) {
  const files = new Map(
    Object.entries(resources).map(([name, { apiVersion, kind, ...rest }]) => [
      path.join(HERE, `${name}.ts`),
      `import type { I${kind} } from "${moduleOf({ apiVersion, kind })}";\n` +
        // Read from JSON, a text is any text: which are allowed is the validator's question.
        `type Loose<T> = T extends string ? string : T extends readonly (infer E)[] ? Loose<E>[]\n` +
        `  : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;\n` +
        `void (${JSON.stringify(rest)} satisfies Loose<Omit<I${kind}, "apiVersion" | "kind">>);`,
    ]),
  );
  const host = ts.createCompilerHost(OPTIONS);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.readFile = (name) => files.get(name) ?? readFile(name);
  host.getSourceFile = (name, ...more) =>
    files.has(name)
      ? ts.createSourceFile(name, files.get(name), ts.ScriptTarget.ES2022)
      : getSourceFile(name, ...more);
  const compiled = ts.createProgram([...files.keys()], OPTIONS, host);
  return (name) => {
    const source = compiled.getSourceFile(path.join(HERE, `${name}.ts`));
    return [
      ...compiled.getSyntacticDiagnostics(source),
      ...compiled.getSemanticDiagnostics(source),
    ].map((each) => ts.flattenDiagnosticMessageText(each.messageText, "\n"));
  };
}

const asked = JSON.parse(readFileSync(0, "utf-8"));
const complaints = {};
const known = {};
for (const [name, resource] of Object.entries(asked)) {
  if (moduleOf(resource)) known[name] = resource;
  else complaints[name] = [`no definition of ${resource.apiVersion} ${resource.kind} is known here`];
}
const unknownKeys = keys(known);
for (const [name, resource] of Object.entries(known)) {
  complaints[name] = [...(await values(resource)), ...unknownKeys(name)];
}
process.stdout.write(JSON.stringify(complaints));
