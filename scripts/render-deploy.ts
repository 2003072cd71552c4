// Renders the parts of deploy/kustomize from the Helm chart, which is where objects are written.
// usage: node scripts/render-deploy.ts [--check]; DEPLOY_TOOLS_BUILD=1 builds Helm first
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parseAllDocuments, stringify } from 'yaml'
import { deployTool } from './deploy-tools.ts'

const run = promisify(execFile)
const deploy = join(import.meta.dirname, '../deploy')
const chart = join(deploy, 'helm/assay')

/** Of the chart. */
export type Values = Readonly<Record<string, unknown>>

export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string, readonly namespace?: string, readonly labels?: Readonly<Record<string, string>>
  }
  readonly [key: string]: unknown
}

const onPostgresql = { server: { datastore: 'postgresql', replicas: 3 } }
const onMesh = { agent: { mode: 'mesh' } }

/** Folders of deploy/kustomize that are applied, and the values with which the chart gives the same. */
export const overlays: Readonly<Record<string, Values>> = {
  base: { agent: { enabled: false } },
  'overlays/sds-only': {},
  'overlays/mesh': onMesh,
  'overlays/postgresql': onPostgresql
}

/** Folders of deploy/kustomize/parts: which objects of which values. */
const parts: Readonly<Record<string, { readonly values: Values, readonly components: readonly string[] }>> = {
  namespaces: { values: {}, components: [''] },
  'server-sqlite': { values: {}, components: ['server', 'controller'] },
  'server-postgresql': { values: onPostgresql, components: ['server', 'controller'] },
  'agent-sds-only': { values: {}, components: ['agent'] },
  'agent-mesh': { values: onMesh, components: ['agent'] },
  csi: { values: { csi: { enabled: true } }, components: ['csi'] }
}

/** What the chart makes of values. Throws with Helm's own words when it refuses them. */
export async function renderChart (values: Values): Promise<KubeObject[]> {
  return objectsIn(await callHelm(['template', 'assay', chart, '--include-crds'], values))
}

/** What an operator reads after an installation with these values. */
export async function chartNotes (values: Values): Promise<string> {
  const said = await callHelm(['install', 'assay', chart, '--dry-run=client'], values)
  return said.slice(said.lastIndexOf('\nNOTES:\n'))
}

async function callHelm (words: readonly string[], values: Values): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'assay-chart-'))
  try {
    const file = join(folder, 'values.json')
    writeFileSync(file, JSON.stringify(values))
    const { stdout } = await run(await deployTool('helm'), [...words, '--namespace', 'assay', '--values', file], {
      maxBuffer: 1 << 24, env: { ...process.env, HELM_CONFIG_HOME: folder, HELM_CACHE_HOME: folder, HELM_DATA_HOME: folder }
    })
    return stdout
  } catch (error) {
    throw new Error((error as { stderr?: string }).stderr?.trim() || (error as Error).message, { cause: error })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** What Kustomize makes of a folder of deploy/kustomize. */
export async function buildKustomization (folder: string): Promise<KubeObject[]> {
  const { stdout } = await run(await deployTool('kustomize'), ['build', join(deploy, 'kustomize', folder)], { maxBuffer: 1 << 24 })
  return objectsIn(stdout)
}

export function objectsIn (yaml: string): KubeObject[] {
  return parseAllDocuments(yaml).flatMap(document => {
    if (document.errors[0] !== undefined) throw document.errors[0]
    const object = document.toJS() as KubeObject | null
    return object === null ? [] : [object]
  })
}

/** Path below deploy/kustomize → text. */
export async function renderParts (): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  for (const [name, { values, components }] of Object.entries(parts)) {
    const objects = (await renderChart(values)).filter(({ kind, metadata: { labels } }) =>
      kind !== 'CustomResourceDefinition' && components.includes(labels?.['app.kubernetes.io/component'] ?? ''))
    if (objects.length === 0) throw new Error(`part ${name} has no objects`)
    const head = '# Made from deploy/helm/assay by scripts/render-deploy.ts.\n'
    files.set(`parts/${name}/objects.yaml`, head + objects.map(object => stringify(object, { lineWidth: 0 })).join('---\n'))
    files.set(`parts/${name}/kustomization.yaml`,
      `${head}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- objects.yaml\n`)
  }
  return files
}

if (import.meta.main) {
  for (const [path, text] of await renderParts()) {
    const file = join(deploy, 'kustomize', path)
    if (process.argv.includes('--check')) {
      if (existsSync(file) && readFileSync(file, 'utf8') === text) continue
      console.error(`${file} is not what the chart gives: run node scripts/render-deploy.ts`)
      process.exitCode = 1
    } else {
      mkdirSync(join(file, '..'), { recursive: true })
      writeFileSync(file, text)
    }
  }
}
