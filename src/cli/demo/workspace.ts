import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const prefix = 'assay-demo-'

/** A private folder, named by this process, so that a later run can tell whether anybody still uses it. */
export interface Workspace extends AsyncDisposable {
  readonly folder: string
  readonly logs: string
  /** Leaves the logs, and nothing else, when the workspace goes. */
  keepLogs: boolean
  /** For an end without time to wait. */
  removeNow (): void
}

export async function openWorkspace (): Promise<Workspace> {
  await removeLeftovers()
  const folder = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`))
  const logs = join(folder, 'logs')
  await mkdir(logs)
  const workspace: Workspace = {
    folder,
    logs,
    keepLogs: false,
    removeNow () { rmSync(folder, { recursive: true, force: true }) },
    async [Symbol.asyncDispose] () {
      if (!workspace.keepLogs) return await rm(folder, { recursive: true, force: true })
      for (const name of await readdir(folder)) if (name !== 'logs') await rm(join(folder, name), { recursive: true, force: true })
    }
  }
  return workspace
}

/** Folders of runs that were killed. Kept logs stay: somebody wanted them. */
async function removeLeftovers (): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = name.startsWith(prefix) ? /^(\d+)-/.exec(name.slice(prefix.length))?.[1] : undefined
    if (pid === undefined || isAlive(Number(pid))) continue
    const folder = join(tmpdir(), name)
    const { uid } = await stat(folder).catch(() => ({ uid: -1 }))
    if (uid !== process.getuid?.()) continue
    const held = await readdir(folder).catch(() => [])
    if (held.length !== 1 || held[0] !== 'logs') await rm(folder, { recursive: true, force: true })
  }
}

function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
