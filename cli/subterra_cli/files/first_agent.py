"""The file that `subterra init` writes: a small procedure with comments, and its agent."""

_TEXT = """\
# A small procedure, and the agent that is compiled from it. Change the words, then:
#   subterra lint NAME.yaml                  what is wrong, and how to fix it
#   subterra sample NAME.yaml                conversations that the model will be trained on
#   subterra plan NAME.yaml                  what compiling costs, and whether the training fits
#   kubectl apply --filename NAME.yaml       compile it
#   subterra watch NAME; subterra chat NAME  follow it, talk to it
apiVersion: subterra.dev/v1alpha1
kind: Procedure
metadata: {name: NAME}
spec:
  systemPrompt: You are the assistant of a bicycle repair shop.  # all that the compiled model gets to read
  start: greet
  variables:  # values that vary from one conversation to the next; {{day}} stands for the one of this conversation
    - {name: day, values: [Monday, Tuesday, Wednesday, Thursday, Friday]}
  otherwise:  # what the agent says to a value that is not in the list
    unknownValue: ["I'm sorry, we don't take bicycles in on {{value}}."]
  nodes:  # one for each utterance. `examples` are its words: the scripted teacher says nothing else for the agent
    - {id: greet, role: agent, prompt: Greet and ask what is needed., next: [{to: wish}],
       examples: ["Hello! Do you want to bring a bicycle in, or talk to a mechanic?"]}
    - id: wish  # several edges: what the customer says decides which one is taken
      role: customer
      next:
        - {to: ask_day, when: The customer brings a bicycle., examples: ["I'd like to bring my bike.", "My bike needs a repair."]}
        - {to: mechanic, when: The customer wants a person., examples: ["A mechanic, please.", "Can I talk to a mechanic?"]}
    - {id: ask_day, role: agent, prompt: Ask for the day., examples: ["Which day suits you?"], next: [{to: name_day}]}
    - {id: name_day, role: customer, examples: ["{{day}}, please.", "On {{day}}."], next: [{to: booked}]}
    - {id: booked, role: agent, prompt: "Confirm {{day}}.", examples: ["See you on {{day}}!"], outcome: success}
    - {id: mechanic, role: agent, prompt: Hand over., examples: ["I'll get a mechanic."], outcome: escalation}
---
apiVersion: subterra.dev/v1alpha1
kind: CompiledAgent
metadata: {name: NAME}
spec:
  compile:
    procedureRef: {name: NAME}
    template:
      baseModel: {uri: bundled://SmolLM2-135M-Instruct}  # comes with the jobs image, trains on CPUs
"""


def first_agent(name: str) -> str:
    """The file for an agent of this name."""
    return _TEXT.replace("NAME", name)
