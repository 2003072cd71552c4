import { readlink } from 'node:fs/promises'
import { ManagedProcess } from './managed-process.ts'

const patienceMs = 30_000

/** A network namespace of one process. When that ends, also by `kill -9` of this one, the kernel removes the namespace and its links. */
export interface HeldNamespace {
  readonly holder: ManagedProcess
  /** For whoever wants to open it. */
  readonly path: string
  /** Words that make a command run in it. */
  readonly enter: readonly string[]
}

/**
 * A namespace without a name, so that nothing can be left behind.
 * @param scope owns the holder
 * @param folder for the log
 */
export async function holdNamespace (name: string, folder: string, scope: AsyncDisposableStack): Promise<HeldNamespace> {
  const holder = scope.use(new ManagedProcess({
    name: `namespace of ${name}`, command: ['unshare', '--net', '--', 'cat'], logFile: `${folder}/network.log`
  }))
  await separated(holder)
  const path = `/proc/${holder.pid}/ns/net`
  return { holder, path, enter: ['nsenter', `--net=${path}`, '--'] }
}

/** Until the holder has left this process's namespace. */
async function separated (holder: ManagedProcess): Promise<void> {
  const ours = await readlink('/proc/self/ns/net')
  const end = performance.now() + patienceMs
  for (;;) {
    if (!holder.running) throw new Error(holder.tail.at(-1) ?? `${holder.name} ended`)
    if (await readlink(`/proc/${holder.pid}/ns/net`).catch(() => ours) !== ours) return
    if (performance.now() > end) throw new Error(`${holder.name} was not made within ${patienceMs / 1_000} s`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
