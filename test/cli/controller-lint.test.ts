import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { findingCatalogue } from '../../src/controller/lint/finding.ts'
import { runAssay } from '../fakes/run-assay.ts'

const wide = 'apiVersion: spire.spiffe.io/v1alpha1\nkind: ClusterSPIFFEID\nmetadata:\n  name: all\nspec:\n' +
  '  spiffeIDTemplate: spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}\n'

void t.test('assay controller lint', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-lint-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'all.yaml')
  await writeFile(file, wide)
  const input = wide.replace('name: all', 'name: again')
  const lint = async (...words: string[]) => await runAssay(['controller', 'lint', ...words], { input })

  const { code, stdout } = await lint('-f', file)
  t.equal(stdout, `${file}:6: ClusterSPIFFEID/all: warning: ` +
    'has no selector: every pod of the cluster is meant, of namespaces to come too\n' +
    '  code: every-pod; next: give it a namespaceSelector or a podSelector, or set fallback: true\n1 object, 1 finding\n')
  t.equal(code, 0, 'a warning is no failure')
  t.equal((await lint(file, '-failOn', 'warning')).code, 5, 'unless it is meant to be')
  t.equal((await lint('-f', file, '-failOn', 'warning', '-ignore', 'every-pod')).code, 0)
  const both = await lint('-f', file, '-f', '-', '-output', 'json')
  const { objects, findings } = JSON.parse(both.stdout) as { objects: number, findings: Array<Record<string, unknown>> }
  t.equal(objects, 2)
  t.match(findings.map(({ code, where }) => `${String(code)} ${String(where)}`), [
    /^every-pod .*all\.yaml:6$/, 'every-pod standard input:6', 'duplicate-id standard input:6'
  ], 'files and standard input are looked at together')

  await writeFile(file, wide.replace('{{ .TrustDomain }}', 'other.example'))
  t.equal((await lint(file, '-trustDomain', 'example.org')).code, 5, 'an error is a failure')
  t.equal((await lint(file, '-trustDomain', 'example.org', '-failOn', 'never')).code, 0)
  for (const words of [[], ['-f', '-', '-'], ['-f', join(folder, 'none.yaml')]]) t.equal((await lint(...words)).code, 2, words.join(' '))
})

void t.test('every code is explained', async t => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/controller-lint.md'), 'utf8')
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| (error|warning|info) \|/gm)].map(([, code = '', severity = '']) => [code, severity])
  t.same(Object.fromEntries(rows), Object.fromEntries(Object.entries(findingCatalogue).map(([code, { severity }]) => [code, severity])))
})
