import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const source = join(import.meta.dirname, '../deploy/tools')
/** Outside the checkout: the build takes minutes, and serves every checkout. */
const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'assay')
const packages = { helm: 'helm.sh/helm/v4/cmd/helm', kustomize: 'sigs.k8s.io/kustomize/kustomize/v5' } as const
export type DeployTool = keyof typeof packages

/** Why a tool cannot be run here, or false. */
export function deployToolMissing (tool: DeployTool): string | false {
  if (given(tool) !== undefined || existsSync(join(built(), tool)) || process.env['DEPLOY_TOOLS_BUILD'] === '1') return false
  return `there is no ${tool} of the version that is tested: name one in ${tool.toUpperCase()}_BIN, or set DEPLOY_TOOLS_BUILD=1 to have ` +
    `it built into ${cache} (Go, minutes of CPU, once)`
}

/** The program's path; built if that was asked for. */
export async function deployTool (tool: DeployTool): Promise<string> {
  const program = given(tool) ?? join(built(), tool)
  if (!existsSync(program)) await build()
  return program
}

async function build (): Promise<void> {
  await mkdir(cache, { recursive: true })
  const fresh = await mkdtemp(join(cache, 'deploy-tools-building-'))
  try {
    await run('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', `${fresh}/`, ...Object.values(packages)], {
      cwd: source, env: { ...process.env, CGO_ENABLED: '0' }, maxBuffer: 16 * 1024 * 1024
    })
    await rename(fresh, built()).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
}

function given (tool: DeployTool): string | undefined { return process.env[`${tool.toUpperCase()}_BIN`] || undefined }

function built (): string {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum']) hash.update(readFileSync(join(source, name))).update('\0')
  return join(cache, `deploy-tools-${hash.digest('hex').slice(0, 16)}`)
}
