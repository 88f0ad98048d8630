"""Parts of LlamaIndex and LangChain as parts of ours, and the other way round.

``anabranch.rag.adapters.llamaindex`` needs llama-index-core, and
``anabranch.rag.adapters.langchain`` needs langchain-core.
"""
