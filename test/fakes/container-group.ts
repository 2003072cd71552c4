import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where a hierarchy of control groups may be changed: version 2, alone or beside version 1, or systemd's own of version 1. */
const hierarchies = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup/systemd', '/sys/fs/cgroup']

/** Why no control group can be made here, or false. */
export function groupsMissing (): string | false {
  return hierarchy() === undefined && 'no hierarchy of control groups that this user may change'
}

function hierarchy (): string | undefined {
  return hierarchies.find(path => {
    const probe = join(path, `assay-probe-${process.pid}`)
    try {
      mkdirSync(probe)
      readFileSync(join(probe, 'cgroup.procs'))
      return true
    } catch {
      return false
    } finally {
      try { rmdirSync(probe) } catch {}
    }
  })
}

/** A control group as a kubelet and a runtime make one for a container; it goes when its last process has. */
export class ContainerGroup implements Disposable {
  readonly #folders: string[] = []

  /** @param path such as `/kubepods/pod<uid>/<container id>` */
  constructor (path: string) {
    let folder = hierarchy() ?? ''
    for (const part of path.split('/').filter(part => part !== '')) {
      folder = join(folder, part)
      mkdirSync(folder, { recursive: true })
      this.#folders.unshift(folder)
    }
  }

  add (pid: number): void { writeFileSync(join(this.#folders[0] ?? '', 'cgroup.procs'), `${pid}`) }

  [Symbol.dispose] (): void {
    // Those above may hold others' groups.
    for (const folder of this.#folders) try { rmdirSync(folder) } catch { return }
  }
}
