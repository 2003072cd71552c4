import t from 'tap'
import { readPlaces } from '../../src/attestation/workload/container-places.ts'
import { findPod } from '../../src/attestation/workload/k8s/find-pod.ts'
import { parsePodList } from '../../src/attestation/workload/k8s/pod.ts'

const uid = '2c48913c-b29f-11e7-9350-020968147796'
const systemdUid = uid.replaceAll('-', '_')
const id = '9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961'
const outer = '93529524695bb00d91c1f6dba692ea8d3550c3b94fb2463af7bc9ec82f992d26'
const other = { uid: 'a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80', id: '09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6' }
const inPod = [{ podUid: uid, containerId: id }]
const v2 = (path: string) => `0::${path}\n`
const controllers = ['pids', 'cpu,cpuacct', 'name=systemd']
const v1 = (...paths: string[]) => paths.map((path, index) => `${index + 1}:${controllers[index]}:${path}\n`).join('')

void t.test('paths of runtimes and drivers', t => {
  const paths = {
    'cgroupfs, guaranteed': `/kubepods/pod${uid}/${id}`,
    'cgroupfs, burstable': `/kubepods/burstable/pod${uid}/${id}`,
    'cgroupfs below another group': `/kubepods/kubepods/besteffort/pod${uid}/${id}`,
    'a group of the kubelet\'s own': `/something/pod${uid}/${id}`,
    'the pod alone': `/pod${uid}/${id}`,
    'systemd, docker': `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid}.slice/docker-${id}.scope`,
    'systemd, containerd': `/kubepods.slice/kubepods-pod${systemdUid}.slice/cri-containerd-${id}.scope`,
    'systemd, containerd without systemd\'s slices': `/kubepods-besteffort-pod${systemdUid}.slice:cri-containerd:${id}`,
    'systemd, CRI-O': `/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${systemdUid}.slice/crio-${id}.scope`,
    'CRI-O with a group below the scope': `/kubepods.slice/kubepods-besteffort-pod${systemdUid}.slice/crio-${id}.scope/container`,
    'kind': `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${systemdUid}.slice/cri-containerd-${id}.scope`,
    'an agent in a namespace of its own': `/../../../burstable/pod${uid}/${id}`,
    'the same with systemd': `/../../kubelet-kubepods-besteffort-pod${systemdUid}.slice/cri-containerd-${id}.scope`,
    'a program\'s own group within its container': `/kubepods/burstable/pod${uid}/${id}/init.scope`,
    'in upper case': `/kubepods/pod${uid.toUpperCase()}/${id.toUpperCase()}`
  }
  for (const [what, path] of Object.entries(paths)) {
    t.strictSame(readPlaces(v2(path)), inPod, `${what}, version 2`)
    t.strictSame(readPlaces(v1(path, path, path)), inPod, `${what}, version 1`)
    t.strictSame(readPlaces(`${v1(path, path)}${v2('/')}`), inPod, `${what}, both`)
  }
  const withoutPod = [{ podUid: undefined, containerId: id }]
  t.strictSame(readPlaces(v2(`/../crio-${id}.scope`)), withoutPod, 'CRI-O beside KubeEdge')
  t.strictSame(readPlaces(v2(`/../${id}`)), withoutPod, 'another container of the agent\'s own pod')
  t.strictSame(readPlaces(v2(`/kubepods/burstable/pod2732ca68f6358eba7703fb6f82a25c94/${id}`)), withoutPod, 'a static pod')
  const nested = `/docker/${outer}/kubepods/besteffort/pod${uid}/${id}`
  const inNested = [{ podUid: undefined, containerId: outer }, ...inPod]
  t.strictSame(readPlaces(v2(nested)), inNested, 'a node that is a container')
  const ended = `${v1(nested)}${v2(`/docker/${outer}/system.slice/containerd.service`)}`
  t.strictSame(readPlaces(ended), inNested, 'of which one hierarchy ends at the node')
  t.strictSame(readPlaces(v2(`/kubepods/pod${uid}/${id}/kubepods/pod${other.uid}/${other.id}`)),
    [...inPod, { podUid: other.uid, containerId: other.id }], 'a cluster within a pod')
  t.end()
})

void t.test('processes of no container', t => {
  for (const path of [
    '/', '/user.slice/user-1000.slice/session-3.scope', '/system.slice/kubelet.service', `/kubepods/pod${uid}`, '/kubepods/burstable',
    '/kubepods/pod2732ca68f6358eba7703fb6f82a25c94', `/x${id}`, `/${id}0`, `/${id.slice(1)}`, `/xpod${uid}`,
    `/kubepods.slice/kubepods-pod${systemdUid}.slice/crio-conmon-${id}.scope`
  ]) t.strictSame(readPlaces(v2(path)), [], path)
  for (const text of ['', '\n', 'nonsense', `0:${id}`]) t.strictSame(readPlaces(text), [], JSON.stringify(text))
  t.end()
})

void t.test('groups that contradict each other are believed in nothing', t => {
  const refused = { code: 'workload_attestation_failed' }
  t.throws(() => readPlaces(v1(`/kubepods/pod${uid}/${id}`, `/kubepods/pod${uid}/${other.id}`)), refused, 'two containers')
  t.throws(() => readPlaces(v1(`/kubepods/pod${uid}/${id}`, `/kubepods/pod${other.uid}/${id}`)), refused, 'two pods')
  t.throws(() => readPlaces(v1(`/docker/${id}`, `/docker/${outer}`)), refused, 'two containers of no pod')
  t.end()
})

void t.test('which of several places counts', t => {
  const pod = (uid: string, containerID: string) => ({
    metadata: { name: 'p', namespace: 'n', uid },
    spec: {},
    status: { containerStatuses: [{ name: 'c', containerID: `containerd://${containerID}` }] }
  })
  const known = (...items: object[]) => parsePodList(JSON.stringify({ items }))
  const here = pod(uid, id)
  const there = pod(other.uid, other.id)
  const found = (path: string, pods: ReturnType<typeof known>) => findPod(readPlaces(v2(path)), pods)?.pod.metadata.uid
  const forged = `/kubepods/pod${uid}/${id}/kubepods/pod${other.uid}/${other.id}`
  t.equal(found(forged, known(there, here)), uid, 'a pod makes groups below its own, and becomes no other pod by that')
  t.equal(found(`/kubepods/pod${uid}/${id}/${other.id}`, known(there, here)), uid)
  t.match(findPod(readPlaces(v2(forged)), known(pod(uid, outer), there)), { pod: { metadata: { uid } }, container: undefined },
    'nor while the kubelet does not tell of its container yet')
  t.equal(found(forged, known(there)), other.uid, 'to the cluster within, the pod around it is nothing')
  t.equal(found(`/docker/${outer}/kubepods/pod${uid}/${id}`, known(here, there)), uid)
  t.equal(found(`/../${id}`, known(here, there)), uid, 'a container alone is enough')
  t.equal(found(`/../${outer}`, known(here, there)), undefined)
  t.throws(() => found(`/../${id}`, known(here, pod(other.uid, id))), { code: 'workload_attestation_failed' }, 'unless two pods have it')
  t.end()
})
