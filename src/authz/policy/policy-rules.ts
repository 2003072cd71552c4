import type { Fact } from './facts.ts'
import type { Match } from './match.ts'
import { tlsVersions, type ConditionDocument, type OperationDocument, type PolicyDocument, type SourceDocument } from './policy-schema.ts'
import type { Rule, Test } from './rule.ts'

/** The rules of one of Assay's own documents, in its order. */
export function rulesOf (document: PolicyDocument): Rule[] {
  const target = targetTests(document.workloads ?? {})
  return document.rules.flatMap(({ name, action, provider, from, to, when }) => {
    const common = {
      name: `${document.name}/${name}`,
      policy: document.name,
      action,
      provider,
      from: from?.map(sourceTests),
      when: when?.flatMap(conditionTests) ?? [],
      shadow: document.mode === 'shadow'
    }
    if (to === undefined) return [{ ...common, target, to: undefined }]
    // Which workload it is about belongs to the target: it is for those that the rule makes refuse the rest.
    const anywhere = to.filter(one => targetTests(one).length === 0)
    return [
      ...anywhere.length === 0 ? [] : [{ ...common, target, to: anywhere.flatMap(operationTests) }],
      ...to.filter(one => targetTests(one).length > 0).map(one => {
        const alternatives = operationTests(one)
        const isAnything = alternatives.some(tests => tests.length === 0)
        return { ...common, target: [...target, ...targetTests(one)], to: isAnything ? undefined : alternatives }
      })
    ]
  })
}

type TargetDocument = Pick<OperationDocument, 'ids' | 'notIds' | 'selectors' | 'notSelectors'>

function targetTests ({ ids, notIds, selectors, notSelectors }: TargetDocument): Test[] {
  const id: Fact = { name: 'destination.id' }
  return [...test(id, ids, notIds), ...test(id, selected(selectors), selected(notSelectors))]
}

function sourceTests (source: SourceDocument): Test[] {
  const id: Fact = { name: 'source.id' }
  return [
    ...test(id, source.ids, source.notIds),
    ...test(id, source.trustDomains, source.notTrustDomains),
    ...test(id, selected(source.selectors), selected(source.notSelectors)),
    ...test({ name: 'jwt.principal' }, source.requestPrincipals, source.notRequestPrincipals),
    ...test({ name: 'source.address' }, source.addresses, source.notAddresses),
    ...test({ name: 'source.remoteAddress' }, source.remoteAddresses, source.notRemoteAddresses)
  ]
}

/** As alternatives: what is no gRPC call of some is of another path, or no POST. */
function operationTests (operation: OperationDocument): Test[][] {
  const { grpc, notGrpc } = operation
  const tests = [
    ...test({ name: 'destination.port' }, operation.ports, operation.notPorts),
    ...test({ name: 'host' }, operation.hosts, operation.notHosts),
    ...test({ name: 'method' }, operation.methods, operation.notMethods),
    ...test({ name: 'path' }, operation.paths, operation.notPaths),
    ...(operation.headers ?? []).flatMap(({ name, values, notValues }) =>
      test({ name: 'header', header: name.toLowerCase() }, values, notValues)),
    ...grpc === undefined ? [] : [...test({ name: 'method' }, [exact('POST')]), ...test({ name: 'path' }, callPaths(grpc))]
  ]
  if (notGrpc === undefined) return [tests]
  const others = [...test({ name: 'method' }, undefined, [exact('POST')]), ...test({ name: 'path' }, undefined, callPaths(notGrpc))]
  return others.map(one => [...tests, one])
}

function callPaths (calls: NonNullable<OperationDocument['grpc']>): Match[] {
  return calls.flatMap(({ service, methods }): Match[] =>
    methods?.map(method => exact(`/${service}/${method}`)) ?? [{ kind: 'prefix', value: `/${service}/` }])
}

function conditionTests ({ time, notTime, tls, sni, claim, audience, presenter }: ConditionDocument): Test[] {
  return [
    ...time === undefined ? [] : test({ name: 'time' }, [{ kind: 'window', window: time }]),
    ...notTime === undefined ? [] : test({ name: 'time' }, undefined, [{ kind: 'window', window: notTime }]),
    ...test({ name: 'tls.version' }, atLeast(tls?.atLeast), atLeast(tls?.notAtLeast)),
    ...sni === undefined ? [] : test({ name: 'tls.sni' }, sni.values, sni.notValues),
    ...claim === undefined ? [] : test({ name: 'claim', path: [claim.path].flat() }, claim.values, claim.notValues),
    ...audience === undefined ? [] : test({ name: 'jwt.audience' }, audience.values, audience.notValues),
    ...presenter === undefined ? [] : test({ name: 'jwt.presenter' }, presenter.values, presenter.notValues)
  ]
}

function test (fact: Fact, any: readonly Match[] | undefined, none?: readonly Match[]): Test[] {
  return any === undefined && none === undefined ? [] : [{ fact, any, none }]
}

function selected (selectors: readonly string[] | undefined): Match[] | undefined {
  return selectors === undefined ? undefined : [{ kind: 'selected', selectors }]
}

function atLeast (version: typeof tlsVersions[number] | undefined): Match[] | undefined {
  return version === undefined ? undefined : [{ kind: 'atLeast', order: tlsVersions, value: version }]
}

function exact (value: string): Match { return { kind: 'exact', value } }
