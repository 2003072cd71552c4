import t from 'tap'
import { mountedAt, parseMountTable } from '../../src/csi/mount-table.ts'

const table = [
  '21 27 0:19 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw',
  '40 27 0:30 /workload /pods/a\\040b\\134c ro,nosuid shared:9 master:1 - tmpfs tmpfs rw,size=4k',
  '52 51 0:32 / /pods/twice rw - tmpfs tmpfs rw',
  '51 27 0:31 / /pods/twice ro - tmpfs tmpfs rw',
  '53 27 0:30 /workload//deleted /pods/gone ro - tmpfs tmpfs rw',
  'nonsense', ''
].join('\n')

void t.test('the kernel\'s table of mounts', t => {
  t.equal(parseMountTable(table).length, 5)
  t.match(mountedAt('/pods/a b\\c', table), { id: 40, readOnly: true }, 'names are written in octal')
  t.match(mountedAt('/proc', table), { readOnly: false }, 'the mount\'s own flag counts, not its file system\'s')
  t.match(mountedAt('/pods/twice', table), { id: 52, readOnly: false }, 'of two the upper one, whatever their order')
  t.equal(mountedAt('/pods', table), undefined, 'a folder above a mount point is none')
  t.ok(mountedAt('/proc'), 'this machine\'s own')
  t.end()
})
