import { join } from 'node:path'
import { ManagedProcess } from '../../src/cli/demo/managed-process.ts'

/** Where CNI's plugins remember addresses, beside each other's networks of the same name. */
const cniState = '/var/lib/cni'
const prepare = `ip link set lo up && if [ -d ${cniState} ]; then mount -t tmpfs cni ${cniState}; fi && echo ready && exec cat`

/**
 * Namespaces for networks, mounts and processes, in which containers can be run as on a machine of their own: when their holder ends, also
 * by `kill -9` of this process, the kernel removes bridges and mounts and ends every container.
 * @param folder for the log
 * @param scope owns the holder
 * @returns words that make a command run in there
 */
export async function openEnclosure (folder: string, scope: AsyncDisposableStack): Promise<readonly string[]> {
  const holder = scope.use(new ManagedProcess({
    name: 'enclosure of the containers', talks: true, logFile: join(folder, 'enclosure.log'),
    command: ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--', 'sh', '-c', prepare]
  }))
  await holder.line('namespaces of their own', line => line === 'ready' ? true : undefined)
  const namespace = (name: string) => `/proc/${holder.pid}/ns/${name}`
  return [
    'nsenter', `--net=${namespace('net')}`, `--mount=${namespace('mnt')}`, `--pid=${namespace('pid_for_children')}`, '--'
  ]
}
