import t from 'tap'
import { ServicesOfPods } from '../../src/controller/desired/cluster-view.ts'
import { sliceFactsOf } from '../../src/controller/kubernetes/cluster-facts.ts'

const pod = { namespace: 'shop', uid: 'pod-1' }

/** @param service what the label says, which the API server does not look at */
function slice (service: string, { namespace = 'shop', uids = ['pod-1'], kind = 'Pod' } = {}) {
  const labels = { 'kubernetes.io/service-name': service }
  const endpoints = uids.map(uid => ({ addresses: ['10.0.0.1'], targetRef: { kind, uid } }))
  const object = { metadata: { name: `${service}-x`, namespace, uid: `slice-${service}`, labels }, endpoints }
  return sliceFactsOf(object)
}

void t.test('the services that a pod is behind', async t => {
  const services = new ServicesOfPods()
  const [web, front] = [slice('web'), slice('front')]
  t.same([...services.change(undefined, web)], ['pod-1'], 'the pod is to be looked at')
  services.change(undefined, web)
  services.change(undefined, front)
  t.same(services.of(pod), ['front', 'web'])
  services.change(web, undefined)
  t.same(services.of(pod), ['front', 'web'], 'another slice says so still')
  services.change(web, undefined)
  services.change(front, slice('front', { uids: ['pod-2'] }))
  t.same(services.of(pod), [])
})

void t.test('who may write slices cannot name pods as another\'s service', async t => {
  const services = new ServicesOfPods()
  const names = ['bank.vault.svc', 'bank.vault.svc.cluster.local', 'Bank', '-bank', '*', '', 'a'.repeat(64)]
  for (const name of names) services.change(undefined, slice(name))
  t.same(services.of(pod), [], 'a label that can be no service\'s name is none')
  services.change(undefined, slice('stranger', { namespace: 'evil' }))
  t.same(services.of(pod), [], 'a slice tells of pods of its own namespace alone')
  services.change(undefined, slice('node', { kind: 'Node' }))
  t.same(services.of(pod), [], 'what is no pod is not behind it')
})
